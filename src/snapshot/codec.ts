// The file format of snapshots; docs/snapshots.md describes it. Everything is little-endian.
//
//   0  "WVMXSNAP"   8 u32 version   12 u32 sections   16 u32 layout of the state block   20 u32 CRC-32 of the rest of the file
//   24 sections: u32 tag, u32 0, u64 bytes, contents, zeros up to a multiple of 8
//      META  JSON: model, regions, devices, parent (digest of the snapshot a delta builds on, or null), digest
//      STAT  the state block
//      PAGE  u32 region, u32 pages, then u32 page numbers, zeros up to a multiple of 8, then 4096 bytes each
//      ZERO  u32 region, u32 pages, then u32 page numbers: pages of the parent that are zeros now
import { crc32 } from "./crc32.ts";
import { decodeData, encodeData } from "./data.ts";
import { SnapshotError } from "./errors.ts";
import { LAYOUT_DIGEST } from "./layout.generated.ts";
import { PAGE, type Page, PageStore } from "./pages.ts";
import { Snapshot, type SnapshotModel, type SnapshotRegion } from "./snapshot.ts";

const MAGIC = 0x50414e53_584d5657n; // "WVMXSNAP"
export const SNAPSHOT_VERSION = 1;
const HEADER = 24;

const tagOf = (text: string) => [...text].reduceRight((tag, c) => (tag << 8) | c.charCodeAt(0), 0) >>> 0;
const META = tagOf("META");
const STAT = tagOf("STAT");
const PAGES = tagOf("PAGE");
const ZERO = tagOf("ZERO");

const align = (n: number) => (n + 7) & ~7;

interface Meta {
  readonly model: SnapshotModel;
  readonly regions: readonly SnapshotRegion[];
  readonly devices: Snapshot["devices"];
  readonly parent: number | null;
  readonly digest: number;
}

interface Section {
  readonly tag: number;
  readonly bytes: Uint8Array;
}

function pageSection(region: number, pages: readonly (readonly [number, Page])[]): Section {
  const table = align(8 + 4 * pages.length);
  const bytes = new Uint8Array(table + pages.length * PAGE);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, region, true);
  view.setUint32(4, pages.length, true);
  pages.forEach(([page, contents], i) => {
    view.setUint32(8 + 4 * i, page, true);
    bytes.set(contents, table + i * PAGE);
  });
  return { tag: PAGES, bytes };
}

function zeroSection(region: number, pages: readonly number[]): Section {
  return { tag: ZERO, bytes: new Uint8Array(Uint32Array.of(region, pages.length, ...pages).buffer) };
}

export interface ToBytesOptions {
  /** Write only what differs from this snapshot, which is needed to read the bytes again. Same memory map. */
  readonly since?: Snapshot;
}

/** A snapshot as bytes, for a file or another program. */
export function snapshotToBytes(snapshot: Snapshot, { since }: ToBytesOptions = {}): Uint8Array<ArrayBuffer> {
  const { model, regions, devices, digest } = snapshot;
  if (since && !sameRegions(since.regions, regions)) {
    throw new SnapshotError("a delta needs a snapshot of the same memory map", "misfit");
  }
  const meta: Meta = { model, regions, devices, parent: since?.digest ?? null, digest };
  const sections: Section[] = [
    { tag: META, bytes: new TextEncoder().encode(encodeData(meta)) },
    { tag: STAT, bytes: snapshot.state },
  ];
  snapshot.contents.forEach((store, region) => {
    const zeros: number[] = [];
    let pages: (readonly [number, Page])[];
    if (since) {
      pages = [];
      for (const page of store.differences(since.contents[region]!)) {
        const contents = store.get(page);
        if (contents) pages.push([page, contents]);
        else zeros.push(page);
      }
    } else pages = [...store.entries()];
    if (pages.length) sections.push(pageSection(region, pages));
    if (zeros.length) sections.push(zeroSection(region, zeros));
  });
  const size = sections.reduce((sum, { bytes }) => sum + 16 + align(bytes.length), HEADER);
  const out = new Uint8Array(size);
  const view = new DataView(out.buffer);
  view.setBigUint64(0, MAGIC, true);
  view.setUint32(8, SNAPSHOT_VERSION, true);
  view.setUint32(12, sections.length, true);
  view.setUint32(16, LAYOUT_DIGEST, true);
  let at = HEADER;
  for (const { tag, bytes } of sections) {
    view.setUint32(at, tag, true);
    view.setBigUint64(at + 8, BigInt(bytes.length), true);
    out.set(bytes, at + 16);
    at += 16 + align(bytes.length);
  }
  view.setUint32(20, crc32(out.subarray(HEADER)), true);
  return out;
}

export function sameRegions(a: readonly SnapshotRegion[], b: readonly SnapshotRegion[]): boolean {
  return (
    a.length === b.length &&
    a.every(({ address, size, kind }, i) => address === b[i]!.address && size === b[i]!.size && kind === b[i]!.kind)
  );
}

function readSections(bytes: Uint8Array): Section[] {
  if (bytes.length < HEADER) throw new SnapshotError(`${bytes.length} bytes are too few for a snapshot`, "format");
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (view.getBigUint64(0, true) !== MAGIC) {
    throw new SnapshotError('this is no snapshot: it does not begin with "WVMXSNAP"', "format");
  }
  const version = view.getUint32(8, true);
  if (version !== SNAPSHOT_VERSION) {
    throw new SnapshotError(
      `the snapshot has format version ${version}, this package reads ${SNAPSHOT_VERSION}`,
      "version",
    );
  }
  if (crc32(bytes.subarray(HEADER)) !== view.getUint32(20, true)) {
    throw new SnapshotError(
      "the snapshot is damaged: its checksum does not match (cut short, or bytes changed)",
      "damaged",
    );
  }
  if (view.getUint32(16, true) !== LAYOUT_DIGEST) {
    throw new SnapshotError(
      "the snapshot comes from another version of wasm-vmx, whose processor keeps its state in another layout",
      "version",
    );
  }
  const sections: Section[] = [];
  let at = HEADER;
  for (let i = view.getUint32(12, true); i > 0; i--) {
    if (at + 16 > bytes.length) throw new SnapshotError("the snapshot ends in the middle of a section", "damaged");
    const size = Number(view.getBigUint64(at + 8, true));
    if (at + 16 + size > bytes.length)
      throw new SnapshotError("the snapshot ends in the middle of a section", "damaged");
    sections.push({ tag: view.getUint32(at, true), bytes: bytes.slice(at + 16, at + 16 + size) });
    at += 16 + align(size);
  }
  return sections;
}

export interface FromBytesOptions {
  /** What a delta builds on. */
  readonly parent?: Snapshot;
}

/** Reads what snapshotToBytes() wrote. SnapshotError says what is wrong with other bytes. */
export function snapshotFromBytes(bytes: Uint8Array, { parent }: FromBytesOptions = {}): Snapshot {
  const sections = readSections(bytes);
  const only = (tag: number): Uint8Array => {
    const found = sections.find((section) => section.tag === tag);
    if (!found) throw new SnapshotError("the snapshot lacks its description or the processor's state", "damaged");
    return found.bytes;
  };
  const meta = decodeData(new TextDecoder().decode(only(META))) as Meta;
  if (meta.parent !== null && parent?.digest !== meta.parent) {
    const have = parent ? `the one given has digest ${hex(parent.digest)}` : "none was given";
    throw new SnapshotError(`this delta builds on the snapshot with digest ${hex(meta.parent)}; ${have}`, "parent");
  }
  const backed = meta.regions.filter(({ kind }) => kind !== "mmio");
  const changes = backed.map(() => new Map<number, Page | undefined>());
  for (const { tag, bytes: contents } of sections) {
    if (tag !== PAGES && tag !== ZERO) continue;
    const view = new DataView(contents.buffer);
    const region = changes[view.getUint32(0, true)];
    const count = view.getUint32(4, true);
    const table = align(8 + 4 * count);
    for (let i = 0; i < count; i++) {
      const page = view.getUint32(8 + 4 * i, true);
      region?.set(page, tag === ZERO ? undefined : contents.slice(table + i * PAGE, table + (i + 1) * PAGE));
    }
  }
  const snapshot = new Snapshot({
    state: only(STAT),
    model: meta.model,
    regions: meta.regions,
    devices: meta.devices,
    contents: backed.map(({ size }, i) =>
      (meta.parent === null ? PageStore.zeros(size / PAGE) : parent!.contents[i]!).with(changes[i]!),
    ),
  });
  if (snapshot.digest !== meta.digest)
    throw new SnapshotError("the snapshot's pages do not match its digest", "damaged");
  return snapshot;
}

const hex = (value: number) => `0x${value.toString(16)}`;
