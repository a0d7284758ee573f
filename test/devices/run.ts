import { readFileSync } from "node:fs";
import {
  type BootOptions,
  type FlatOptions,
  loadImage,
  Machine,
  type MachineOptions,
  parseImage,
} from "../../src/index.ts";

const folder = new URL("../../fixtures/devices/", import.meta.url);
export const bytesOf = (name: string): Uint8Array => readFileSync(new URL(`bin/${name}`, folder));
export const expectedOf = (name: string): string => readFileSync(new URL(`expected/${name}.txt`, folder), "latin1");

export interface GuestRun {
  readonly text: string;
  readonly exit: ReturnType<Machine["run"]>;
  readonly machine: Machine;
}

/** Runs a boot image on a machine of the pc profile to its end, in slices of `slice` instructions when given. */
export function runGuest(
  image: Uint8Array,
  options: MachineOptions & {
    readonly slice?: number;
    readonly boot?: BootOptions;
    readonly limit?: number;
    /** How a flat image starts. */
    readonly start?: FlatOptions;
  } = {},
): GuestRun {
  let text = "";
  const { slice, boot, start, limit = 2_000_000_000, ...rest } = options;
  const machine = new Machine({
    memory: 16 << 20,
    extraMemory: 0,
    devices: {
      profile: "pc",
      serial: (byte) => {
        text += String.fromCharCode(byte);
      },
    },
    ...rest,
  });
  loadImage(machine, parseImage(image, start), boot);
  for (;;) {
    const exit = machine.run(slice === undefined ? {} : { maxInstructions: slice });
    const goesOn = exit.reason === "slice" || (slice !== undefined && exit.reason === "instructions");
    if (!goesOn || machine.instructionCount > limit) return { text, exit, machine };
  }
}
