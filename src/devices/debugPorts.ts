import type { PortDevice } from "./bus.ts";

/** Port 0xE9 of Bochs: each byte written goes to the console; reading gives 0xE9. */
export class DebugConsole implements PortDevice {
  readonly ports = [[0xe9, 0xe9]] as const;
  readonly #emit: (byte: number) => void;

  constructor(emit: (byte: number) => void) {
    this.#emit = emit;
  }

  read(): number {
    return 0xe9;
  }

  write(_port: number, value: number, size: number): void {
    for (let i = 0; i < size; i++) this.#emit((value >>> (8 * i)) & 0xff);
  }
}

/** Port 0xF4: the value written ends the guest. */
export class DebugExit implements PortDevice {
  readonly ports = [[0xf4, 0xf4]] as const;
  readonly #end: (value: number) => void;

  constructor(end: (value: number) => void) {
    this.#end = end;
  }

  write(_port: number, value: number): void {
    this.#end(value);
  }
}
