import { loadImage, Machine, parseFlat, type StartMode } from "../../src/index.ts";

/** A machine about to execute these bytes: at 0x7C00 in real mode, at 1 MiB else. */
export function machineWith(mode: StartMode, ...bytes: number[]): Machine {
  const machine = new Machine({ memory: 4 << 20 });
  loadImage(machine, parseFlat(Uint8Array.from(bytes), { mode }));
  return machine;
}

export function catchError(body: () => unknown): Error {
  try {
    body();
  } catch (error) {
    return error as Error;
  }
  throw new Error("nothing was thrown");
}
