// Snapshots of one machine: what its processor, memory map and parts give, and what fits.
import {
  COUNT_LIMIT,
  GPR,
  JIT_WHY,
  RUN_LIMIT,
  STOP,
  TAG_REAL,
  TR_TABLE,
  TR_TAG,
  TR_TAG_IMPLICIT,
  VMCS_HOST,
  WORK_LIMIT,
} from "../../assembly/abi/state.ts";
import type { Core } from "../core/index.ts";
import {
  captureState,
  encodeData,
  type PageStore,
  restoreState,
  type Saveable,
  type SavedData,
  Snapshot,
  SnapshotError,
  type SnapshotModel,
  type SnapshotRegion,
  sameRegions,
  type Tracked,
  TrackedMemory,
} from "../snapshot/index.ts";
import type { MemoryMap } from "./memoryMap.ts";
import type { CpuModel } from "./models.ts";

/** RAM from address 0, the other RAM and ROM, and the CPU model: what a machine for a snapshot is made with. */
export function optionsFor(snapshot: Snapshot): { memory: number; extraMemory: number; cpu: CpuModel } {
  const backed = snapshot.regions.filter(({ kind }) => kind !== "mmio");
  const low = backed.find(({ address, kind }) => address === 0n && kind === "ram");
  const memory = low?.size ?? 0;
  const extraMemory = backed.reduce((sum, { size }) => sum + size, 0) - memory;
  return { memory, extraMemory, cpu: snapshot.model as unknown as CpuModel };
}

/**
 * 64-bit words that follow from others when a state is restored, or are set when a run begins: names of the TLB's contexts, the bounds
 * of the last run. VMCS_HOST, JIT_WHY and TR_TABLE are 32-bit words.
 */
const DERIVED = [TR_TAG, TR_TAG_IMPLICIT, TAG_REAL, COUNT_LIMIT, WORK_LIMIT, RUN_LIMIT];
const DERIVED_32 = [VMCS_HOST, JIT_WHY, TR_TABLE];

/** The state without them, so that equal states are equal bytes. */
function withoutDerived(state: Uint8Array): Uint8Array {
  for (const word of DERIVED) state.fill(0, word - GPR, word - GPR + 8);
  for (const word of DERIVED_32) state.fill(0, word - GPR, word - GPR + 4);
  return state;
}

export class Snapshots {
  readonly #core: Core;
  readonly #map: MemoryMap;
  readonly #model: CpuModel;
  readonly #memory: TrackedMemory;
  readonly #parts = new Map<string, Saveable>();

  /** @param tracked what is known of memory that another machine has left */
  constructor(core: Core, map: MemoryMap, model: CpuModel, tracked?: Tracked) {
    this.#core = core;
    this.#map = map;
    this.#model = model;
    this.#memory = new TrackedMemory(core, tracked);
  }

  addState(name: string, part: Saveable): void {
    if (this.#parts.has(name)) throw new RangeError(`a part named ${JSON.stringify(name)} has been added already`);
    this.#parts.set(name, part);
  }

  get tracked(): Tracked {
    return this.#memory.tracked;
  }

  mapChanged(): void {
    this.#memory.forget();
  }

  /** For a machine whose memory nobody has written to yet. */
  beginWithZeros(): void {
    this.#memory.beginWithZeros(this.#map.backed);
  }

  take(): Snapshot {
    const devices: Record<string, SavedData> = {};
    for (const [name, part] of this.#parts) devices[name] = part.save();
    return new Snapshot({
      state: withoutDerived(captureState(this.#core)),
      model: this.#model as unknown as SnapshotModel,
      regions: this.#map.regions,
      contents: this.#memory.capture(this.#map.backed),
      devices,
    });
  }

  contents(): PageStore[] {
    return this.#memory.capture(this.#map.backed);
  }

  /** As restore(), without a check, with the hooks of the state, and without the parts: for recordings. */
  put(state: Uint8Array, contents: readonly PageStore[]): void {
    this.#memory.restore(this.#map.backed, contents);
    this.#core.u8.set(state, GPR);
    this.#core.write32(STOP, 0);
    this.#core.exports.restored();
  }

  /** Nothing has changed when it throws, unless a part refuses its state. Returns how many pages were copied. */
  restore(snapshot: Snapshot): number {
    if (!(snapshot instanceof Snapshot))
      throw new TypeError("restore() takes a Snapshot: read bytes with snapshotFromBytes()");
    this.#check(snapshot);
    const copied = this.#memory.restore(this.#map.backed, snapshot.contents);
    restoreState(this.#core, snapshot.state);
    for (const [name, part] of this.#parts) part.restore(snapshot.devices[name]!);
    return copied;
  }

  #check({ regions, model, devices }: Snapshot): void {
    const here = this.#map.regions;
    if (!sameRegions(regions, here)) {
      throw new SnapshotError(`the snapshot has ${show(regions)}; this machine has ${show(here)}`, "misfit");
    }
    const same =
      Object.is(model, this.#model) ||
      (encodeData(model.cpuid) === encodeData(this.#model.cpuid) &&
        model.platformInfo === this.#model.platformInfo &&
        model.miscFeaturesMask === this.#model.miscFeaturesMask);
    if (!same) {
      throw new SnapshotError(
        `the snapshot is of CPU model "${model.name}", this machine is "${this.#model.name}" with other CPUID answers or MSRs`,
        "misfit",
      );
    }
    const missing = Object.keys(devices).filter((name) => !this.#parts.has(name));
    const extra = [...this.#parts.keys()].filter((name) => !(name in devices));
    if (missing.length + extra.length > 0) {
      const lacks = missing.map((name) => `this machine has no part "${name}" (addState)`);
      const unknown = extra.map((name) => `the snapshot has no state of "${name}"`);
      throw new SnapshotError([...lacks, ...unknown].join("; "), "misfit");
    }
  }
}

function show(regions: readonly SnapshotRegion[]): string {
  return regions
    .map(({ address, size, kind }) => `${kind} 0x${address.toString(16)} + 0x${size.toString(16)}`)
    .join(", ");
}
