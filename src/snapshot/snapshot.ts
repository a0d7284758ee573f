import { COUNT, GPR } from "../../assembly/abi/state.ts";
import { crc32 } from "./crc32.ts";
import type { SavedData } from "./data.ts";
import type { Page, PageStore } from "./pages.ts";

/** A region of the memory map. MMIO windows have no contents: the machine that is restored brings its own callbacks. */
export interface SnapshotRegion {
  readonly address: bigint;
  readonly size: number;
  readonly kind: "ram" | "rom" | "mmio";
}

/** A CPU model as plain data (src/machine/models.ts). */
export interface SnapshotModel {
  readonly name: string;
  readonly cpuid: readonly Readonly<Record<string, number | undefined>>[];
  readonly platformInfo: bigint;
  readonly miscFeaturesMask: bigint;
}

export interface SnapshotParts {
  /** The processor's state block (assembly/abi/state.ts). */
  readonly state: Uint8Array;
  readonly model: SnapshotModel;
  readonly regions: readonly SnapshotRegion[];
  /** Contents of the RAM and ROM regions, in their order. */
  readonly contents: readonly PageStore[];
  readonly devices: Readonly<Record<string, SavedData>>;
}

const digests = new WeakMap<Page, number>();

function pageDigest(page: Page): number {
  let digest = digests.get(page);
  if (digest === undefined) {
    digest = crc32(page);
    digests.set(page, digest);
  }
  return digest;
}

/**
 * The whole state of a machine between two instructions. It never changes; memory pages are shared between snapshots that have
 * them in common, so that a series costs what changed. toBytes() of codec.ts makes it a file.
 */
export class Snapshot implements SnapshotParts {
  readonly state: Uint8Array;
  readonly model: SnapshotModel;
  readonly regions: readonly SnapshotRegion[];
  readonly contents: readonly PageStore[];
  readonly devices: Readonly<Record<string, SavedData>>;
  #digest: number | undefined;

  constructor(parts: SnapshotParts) {
    this.state = parts.state;
    this.model = parts.model;
    this.regions = parts.regions;
    this.contents = parts.contents;
    this.devices = parts.devices;
  }

  /** Instructions completed and events delivered when it was taken. */
  get instructionCount(): bigint {
    const view = new DataView(this.state.buffer, this.state.byteOffset);
    return view.getBigUint64(COUNT - GPR, true);
  }

  /** Pages that are not zeros. */
  get pages(): number {
    let sum = 0;
    for (const store of this.contents) for (const _ of store.entries()) sum++;
    return sum;
  }

  /** Identifies the contents: a delta names the digest of what it builds on. */
  get digest(): number {
    if (this.#digest === undefined) {
      let digest = crc32(this.state);
      const word = new Uint32Array(3);
      const bytes = new Uint8Array(word.buffer);
      this.contents.forEach((store, region) => {
        for (const [page, contents] of store.entries()) {
          word.set([region, page, pageDigest(contents)]);
          digest = crc32(bytes, digest);
        }
      });
      this.#digest = digest;
    }
    return this.#digest;
  }
}
