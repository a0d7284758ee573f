// PVH kernels: ELF files with the note XEN_ELFNOTE_PHYS32_ENTRY. Source: Xen docs/misc/pvh.pandoc, public/elfnote.h
import { GuestImageError } from "../../core/index.ts";
import { isElf, parseElf, parseNotes } from "./elf.ts";
import type { GuestImage } from "./image.ts";

const OWNER = "Xen";
const XEN_ELFNOTE_PHYS32_ENTRY = 18;

/** Physical entry point of the note, undefined without one. */
function pvhEntry(bytes: Uint8Array): number | undefined {
  const note = parseNotes(bytes).find(({ owner, type }) => owner === OWNER && type === XEN_ELFNOTE_PHYS32_ENTRY);
  if (note === undefined) return undefined;
  const view = new DataView(note.data.buffer, note.data.byteOffset, note.data.byteLength);
  if (note.data.length !== 4 && note.data.length !== 8) {
    throw new GuestImageError(`ELF note XEN_ELFNOTE_PHYS32_ENTRY has ${note.data.length} bytes, not 4 or 8`);
  }
  return view.getUint32(0, true);
}

export function isPvh(bytes: Uint8Array): boolean {
  return isElf(bytes) && pvhEntry(bytes) !== undefined;
}

/** A kernel with a PVH entry. It starts in 32-bit protected mode with EBX = struct hvm_start_info. */
export function parsePvh(bytes: Uint8Array): GuestImage {
  const entry = pvhEntry(bytes);
  if (entry === undefined) throw new GuestImageError("this ELF file has no note XEN_ELFNOTE_PHYS32_ENTRY");
  return { ...parseElf(bytes, { mode: "protected", entry }), boot: { protocol: "pvh", alignModules: true } };
}
