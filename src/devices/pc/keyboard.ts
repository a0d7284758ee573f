// 8042 keyboard controller without a keyboard, and port 0x92: what software needs of them to reset the machine and to find
// that address line 20 is on (it always is). Source: IBM PS/2 Hardware Interface Technical Reference, "Keyboard and Auxiliary
// Device Controller"; "System Control Port A".
import type { PortDevice } from "../bus.ts";

const DATA = 0x60;
const STATUS = 0x64;
const PORT_A = 0x92;
const FAST_RESET = 0x01;
const A20 = 0x02;

const STATUS_OUTPUT_FULL = 0x01;
/** System flag, keyboard not locked. */
const STATUS_IDLE = 0x14;
const STATUS_COMMAND = 0x08;
const OUTPUT_PORT = 0xcf; // A20 on, not in reset
const SELF_TEST_PASSED = 0x55;

const Command = {
  ReadByte: 0x20,
  WriteByte: 0x60,
  TestAux: 0xa9,
  SelfTest: 0xaa,
  TestKeyboard: 0xab,
  ReadInput: 0xc0,
  ReadOutput: 0xd0,
  WriteOutput: 0xd1,
  Pulse: 0xf0,
} as const;

export interface KeyboardState {
  readonly output: readonly number[];
  readonly commandByte: number;
  readonly expects: number;
  readonly wasCommand: boolean;
  readonly portA: number;
}

export class KeyboardController implements PortDevice {
  readonly ports = [
    [DATA, DATA],
    [STATUS, STATUS],
    [PORT_A, PORT_A],
  ] as const;
  readonly width = 1;
  readonly #reset: (port: number, value: number) => void;
  #output: number[] = [];
  #commandByte = 0x45;
  /** Command that the next byte at the data port belongs to, 0: it is for the keyboard. */
  #expects = 0;
  #wasCommand = false;
  #portA = A20;

  constructor(reset: (port: number, value: number) => void) {
    this.#reset = reset;
  }

  read(port: number): number {
    if (port === PORT_A) return this.#portA;
    if (port === DATA) return this.#output.shift() ?? 0;
    return STATUS_IDLE | (this.#output.length > 0 ? STATUS_OUTPUT_FULL : 0) | (this.#wasCommand ? STATUS_COMMAND : 0);
  }

  write(port: number, value: number): void {
    if (port === PORT_A) {
      this.#portA = (value & ~FAST_RESET) | A20;
      if (value & FAST_RESET) this.#reset(port, value);
      return;
    }
    this.#wasCommand = port === STATUS;
    if (port === STATUS) this.#command(value);
    else {
      const command = this.#expects;
      this.#expects = 0;
      if (command === Command.WriteByte) this.#commandByte = value;
      // bit 0 of the output port is the processor's reset, active low
      else if (command === Command.WriteOutput && !(value & 1)) this.#reset(port, value);
    }
  }

  #command(value: number): void {
    switch (value) {
      case Command.ReadByte:
        this.#output.push(this.#commandByte);
        break;
      case Command.WriteByte:
      case Command.WriteOutput:
        this.#expects = value;
        break;
      case Command.SelfTest:
        this.#output = [SELF_TEST_PASSED];
        break;
      case Command.TestAux:
      case Command.TestKeyboard:
      case Command.ReadInput:
        this.#output.push(0);
        break;
      case Command.ReadOutput:
        this.#output.push(OUTPUT_PORT);
        break;
      default:
        // pulses the output lines whose bits are 0
        if (value >= Command.Pulse && !(value & 1)) this.#reset(STATUS, value);
    }
  }

  reset(): void {
    this.#output = [];
    this.#commandByte = 0x45;
    this.#expects = 0;
    this.#wasCommand = false;
    this.#portA = A20;
  }

  save(): KeyboardState {
    return {
      output: [...this.#output],
      commandByte: this.#commandByte,
      expects: this.#expects,
      wasCommand: this.#wasCommand,
      portA: this.#portA,
    };
  }

  restore(state: KeyboardState): void {
    this.#output = [...state.output];
    this.#commandByte = state.commandByte;
    this.#expects = state.expects;
    this.#wasCommand = state.wasCommand;
    this.#portA = state.portA;
  }
}
