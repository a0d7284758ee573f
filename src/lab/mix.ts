import { type GuestImage, parseImage } from "../machine/index.ts";

/** Rates of the laboratory's guest (fixtures/lab/src/mix.asm). A round is `steps` steps of computing and what follows. */
export interface MixRates {
  /** The guest turns CPUID faulting on at its start. */
  readonly faulting: boolean;
  readonly rounds: number;
  /** CPUIDs at CPL 3 a round, 0 to 65535, in steps of 2^-16. */
  readonly cpuids: number;
  /** Exits to user space a round. */
  readonly exits: number;
  /** Guest WRMSRs of 0x140 a round, each turning bit 0 over. */
  readonly writes: number;
  readonly steps: number;
}

/** vCPUs that fixtures/lab/bin/smp.bin has room for. */
export const SMP_VCPUS = 8;
const VCPUS_AT = 24;
export const MIX_LOAD = 0x10_0000;
/** Bytes of RAM the guest needs. */
export const MIX_MEMORY = 8 << 20;
const MAGIC = "LABGUEST";
const MAGIC_AT = 8;
const ONE = 0x1_0000;

export class MixRateError extends RangeError {
  override name = "MixRateError";
  constructor(
    readonly rate: string,
    readonly value: number,
    range?: string,
  ) {
    super(
      range === undefined
        ? `${rate} of ${value} a round: needs a number from 0 to 65535`
        : `${value} ${rate}: ${range}`,
    );
  }
}

function fixed(rate: string, value: number): number {
  if (!(value >= 0) || value >= ONE) throw new MixRateError(rate, value);
  return Math.round(value * ONE);
}

function whole(rate: string, value: number): number {
  if (!Number.isInteger(value) || value < 0 || value > 0xffff_ffff) throw new MixRateError(rate, value);
  return value;
}

/**
 * The guest with these rates patched into its parameter block. `binary` is fixtures/lab/bin/mix.bin, or smp.bin for a VM
 * of several vCPUs.
 */
export function mixImage(binary: Uint8Array, rates: MixRates, vcpus = 1): GuestImage {
  const magic = String.fromCharCode(...binary.subarray(MAGIC_AT, MAGIC_AT + MAGIC.length));
  if (magic !== MAGIC) throw new Error("not the laboratory's guest: its parameter block is missing");
  const bytes = binary.slice();
  const view = new DataView(bytes.buffer, bytes.byteOffset + MAGIC_AT + MAGIC.length);
  const block = [
    rates.faulting ? 1 : 0,
    whole("rounds", rates.rounds),
    fixed("CPUIDs", rates.cpuids),
    fixed("exits", rates.exits),
    fixed("writes", rates.writes),
    whole("steps", rates.steps),
  ];
  block.forEach((value, i) => {
    view.setUint32(4 * i, value, true);
  });
  if (vcpus > SMP_VCPUS) throw new MixRateError("vCPUs of a VM", vcpus, `1 to ${SMP_VCPUS}`);
  if (vcpus > 1) view.setUint32(VCPUS_AT, vcpus, true);
  return parseImage(bytes, { mode: "long", load: MIX_LOAD });
}
