// Multiboot 1 kernels: an ELF file, or any file whose header says itself what goes where (the "a.out kludge").
// Source: Multiboot Specification 0.6.96, "OS image format"
import { checkBytes, GuestImageError } from "../../core/index.ts";
import { isElf, parseElf } from "./elf.ts";
import type { GuestImage, ImageSegment } from "./image.ts";

const MAGIC = 0x1bad_b002;
/** The header lies in the first 8 KiB, aligned to 4. */
const SEARCH_BYTES = 8192;
const HEADER_BYTES = 12;
const ADDRESSES_BYTES = 32;
/** Features that a kernel may require: aligned modules, memory information, a video mode. */
const ALIGN = 1;
const KNOWN_FLAGS = 0x0007;
const REQUIRED_FLAGS = 0xffff;
const ADDRESSES = 1 << 16;

const hex = (value: number) => `0x${value.toString(16)}`;

interface Header {
  readonly offset: number;
  readonly flags: number;
  readonly view: DataView;
}

function findHeader(bytes: Uint8Array): Header | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const last = Math.min(bytes.length, SEARCH_BYTES) - HEADER_BYTES;
  for (let offset = 0; offset <= last; offset += 4) {
    if (view.getUint32(offset, true) !== MAGIC) continue;
    const flags = view.getUint32(offset + 4, true);
    if ((MAGIC + flags + view.getUint32(offset + 8, true)) >>> 0 === 0) return { offset, flags, view };
  }
  return undefined;
}

export function isMultiboot(bytes: Uint8Array): boolean {
  return findHeader(bytes) !== undefined;
}

/** Fields header_addr, load_addr, load_end_addr, bss_end_addr and entry_addr. */
function parseAddresses(bytes: Uint8Array, { offset, view }: Header): { segment: ImageSegment; entry: number } {
  if (offset + ADDRESSES_BYTES > bytes.length) {
    throw new GuestImageError(`truncated Multiboot header: it needs ${ADDRESSES_BYTES} bytes at ${hex(offset)}`, {
      offset,
    });
  }
  const [header, load, loadEnd, bssEnd, entry] = [12, 16, 20, 24, 28].map((at) =>
    view.getUint32(offset + at, true),
  ) as [number, number, number, number, number];
  const start = offset - (header - load);
  if (load > header || start < 0) {
    throw new GuestImageError(
      `Multiboot header at file offset ${hex(offset)} cannot be at ${hex(header)} when the file is loaded at ${hex(load)}`,
      { offset: offset + 16 },
    );
  }
  const end = loadEnd === 0 ? bytes.length : start + (loadEnd - load);
  if (end < start || end > bytes.length) {
    throw new GuestImageError(
      `Multiboot load_end_addr ${hex(loadEnd)} asks for file bytes ${hex(start)}-${hex(end)}, the file has ${bytes.length}`,
      { offset: offset + 20 },
    );
  }
  const data = bytes.subarray(start, end);
  const memorySize = bssEnd === 0 ? data.length : bssEnd - load;
  if (memorySize < data.length) {
    throw new GuestImageError(
      `Multiboot bss_end_addr ${hex(bssEnd)} lies inside the data that ends at ${hex(loadEnd)}`,
      {
        offset: offset + 24,
      },
    );
  }
  return { segment: { address: load, data, memorySize }, entry };
}

/** A kernel with a Multiboot 1 header. It starts in 32-bit protected mode with EAX = 0x2BADB002 and EBX = its information. */
export function parseMultiboot(bytes: Uint8Array): GuestImage {
  checkBytes("bytes", bytes);
  const header = findHeader(bytes);
  if (header === undefined) {
    throw new GuestImageError(`no Multiboot header (0x1badb002 and its checksum) in the first ${SEARCH_BYTES} bytes`);
  }
  const unknown = header.flags & REQUIRED_FLAGS & ~KNOWN_FLAGS;
  if (unknown) {
    throw new GuestImageError(`the Multiboot header requires features that do not exist: flags ${hex(unknown)}`, {
      offset: header.offset + 4,
    });
  }
  const boot = { protocol: "multiboot", alignModules: (header.flags & ALIGN) !== 0 } as const;
  if (header.flags & ADDRESSES) {
    const { segment, entry } = parseAddresses(bytes, header);
    return { format: "multiboot", mode: "protected", entry, segments: [segment], boot };
  }
  if (!isElf(bytes)) {
    throw new GuestImageError("this Multiboot kernel is no ELF file and its header gives no addresses (flag bit 16)", {
      offset: header.offset + 4,
    });
  }
  return { ...parseElf(bytes, { mode: "protected" }), boot };
}
