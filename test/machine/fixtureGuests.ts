// The fixture guests on a bare machine with the debug ports.
import { readFileSync } from "node:fs";
import { genericModel, loadImage, Machine, parseImage, type StartMode } from "../../src/index.ts";

export interface Guest {
  readonly name: string;
  readonly file: string;
  readonly mode: StartMode;
  readonly load?: number;
  readonly entry?: number;
}

const folder = new URL("../../fixtures/guests/", import.meta.url);
export const GUESTS = JSON.parse(readFileSync(new URL("manifest.json", folder), "utf8")) as Guest[];

export const guestNamed = (name: string): Guest => GUESTS.find((guest) => guest.name === name)!;

export interface LoadedGuest {
  readonly machine: Machine;
  readonly console: number[];
}

/** A machine with the debug ports wired, before a guest is loaded. */
export function emptyMachine(jit: number, memory = 16 << 20): LoadedGuest {
  const machine = new Machine({ memory, extraMemory: 0, jit, cpu: genericModel({ vmx: true }) });
  const console: number[] = [];
  machine.onPortOut(0xe9, (_port, value) => void console.push(value & 0xff));
  machine.onPortOut(0xf4, () => machine.stop());
  return { machine, console };
}

export function loadGuest(guest: Guest, jit: number, memory = 16 << 20): LoadedGuest {
  const loaded = emptyMachine(jit, memory);
  const image = parseImage(new Uint8Array(readFileSync(new URL(guest.file, folder))), {
    mode: guest.mode,
    ...(guest.load === undefined ? {} : { load: guest.load }),
    ...(guest.entry === undefined ? {} : { entry: guest.entry }),
  });
  loadImage(loaded.machine, image);
  return loaded;
}
