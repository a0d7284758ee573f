// Bytes -> prefixes, opcode, row of the opcode table, modrm. @sdm 2A "Instruction Format"
import { opcodeRows, type Row } from "./opcodeRows.ts";

/** Width of code: 16 and 32 by CS.D, 64 for 64-bit mode. */
export type DisassemblyMode = 16 | 32 | 64;

const MAX_LENGTH = 15;
/** Maps in the order of the table: one-byte, 0F, 0F38, 0F3A; the VEX forms of the last three follow. */
const MAP_VEX = 3;

let byOpcode: Row[][] | undefined;

function readTable(): Row[][] {
  const table: Row[][] = [];
  for (const row of opcodeRows()) {
    const at = row[0] * 256 + row[1];
    table[at] ??= [];
    table[at].push(row);
  }
  return table;
}

export interface MemoryFields {
  /** Register numbers, -1: none; 16: RIP. */
  readonly base: number;
  readonly index: number;
  readonly scale: number;
  readonly displacement: bigint;
}

export class Fields {
  readonly mode: DisassemblyMode;
  readonly bytes: Uint8Array;
  /** Offset of the next byte. */
  at = 0;
  truncated = false;
  /** Segment override: 0 ES ... 5 GS, -1: none. */
  segment = -1;
  operand16 = false;
  addressSwap = false;
  lock = false;
  /** 0xf2, 0xf3 or 0. */
  repeat = 0;
  rex = 0;
  vex = false;
  vvvv = 0;
  opcode = 0;
  modrm = -1;
  row: Row | undefined;
  memory: MemoryFields | undefined;

  constructor(bytes: Uint8Array, mode: DisassemblyMode) {
    this.bytes = bytes.subarray(0, MAX_LENGTH);
    this.mode = mode;
    this.#read();
  }

  next(): number {
    const byte = this.bytes[this.at];
    if (byte === undefined) {
      this.truncated = true;
      return 0;
    }
    this.at++;
    return byte;
  }

  /** Little-endian, sign-extended. */
  signed(bytes: number): bigint {
    let value = 0n;
    for (let i = 0; i < bytes; i++) value |= BigInt(this.next()) << BigInt(8 * i);
    return BigInt.asIntN(8 * bytes, value);
  }

  /** Address size in bits. */
  get addressBits(): 16 | 32 | 64 {
    if (this.mode === 64) return this.addressSwap ? 32 : 64;
    return (this.mode === 32) !== this.addressSwap ? 32 : 16;
  }

  get reg(): number {
    return ((this.modrm >> 3) & 7) | ((this.rex & 4) << 1);
  }

  get rm(): number {
    return (this.modrm & 7) | ((this.rex & 1) << 3);
  }

  #read(): void {
    this.opcode = this.#prefixes();
    let map = 0;
    let mandatory = this.repeat === 0xf3 ? 2 : this.repeat === 0xf2 ? 3 : this.operand16 ? 1 : 0;
    let vexLegal = true;
    const long = this.mode === 64;
    if (this.opcode === 0x0f) {
      map = 1;
      this.opcode = this.next();
      if (this.opcode === 0x38 || this.opcode === 0x3a) {
        map = this.opcode === 0x38 ? 2 : 3;
        this.opcode = this.next();
      }
    } else if ((this.opcode & 0xfe) === 0xc4 && (long || (this.bytes[this.at] ?? 0) >= 0xc0)) {
      vexLegal = !this.rex && !this.operand16 && !this.lock && !this.repeat;
      this.vex = true;
      map = MAP_VEX + 1;
      let byte = this.next();
      this.rex = (~byte >> 5) & 4;
      if (this.opcode === 0xc4) {
        map = MAP_VEX + (byte & 31);
        if ((byte & 31) === 0 || (byte & 31) > 3) vexLegal = false;
        this.rex = (~byte >> 5) & 7;
        byte = this.next();
        this.rex |= (byte >> 4) & 8;
      }
      if (!long) this.rex = 0;
      this.vvvv = (~byte >> 3) & (long ? 15 : 7);
      mandatory = byte & 3;
      if (byte & 4) vexLegal = false;
      this.opcode = this.next();
    }
    byOpcode ??= readTable();
    const candidates = (byOpcode[map * 256 + this.opcode] ?? []).filter((r) => r[6] !== (long ? 1 : 2));
    // only a group looks at modrm here
    if (candidates.some((r) => r[2] >= 0 || r[4] !== 0)) this.modrm = this.next();
    const { modrm } = this;
    const fitting = candidates.filter(
      ([, , digit, rm, mod, prefixes]) =>
        (digit < 0 || digit === ((modrm >> 3) & 7)) &&
        (rm < 0 || rm === (modrm & 7)) &&
        (mod === 0 || mod === (modrm >= 0xc0 ? 2 : 1)) &&
        (prefixes >> mandatory) & 1,
    );
    fitting.sort((a, b) => weight(b) - weight(a));
    this.row = vexLegal ? fitting[0] : undefined;
  }

  /** Reads prefixes; returns the opcode byte. */
  #prefixes(): number {
    for (;;) {
      const byte = this.next();
      if (this.truncated) return 0;
      const legacy = this.#prefix(byte);
      if (legacy) this.rex = 0;
      else if (this.mode === 64 && (byte & 0xf0) === 0x40) this.rex = byte;
      else return byte;
    }
  }

  #prefix(byte: number): boolean {
    const segment = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65].indexOf(byte);
    if (segment >= 0) {
      if (this.mode !== 64 || segment > 3) this.segment = segment;
    } else if (byte === 0x66) this.operand16 = true;
    else if (byte === 0x67) this.addressSwap = true;
    else if (byte === 0xf0) this.lock = true;
    else if (byte === 0xf2 || byte === 0xf3) this.repeat = byte;
    else return false;
    return true;
  }

  /** Reads modrm when the row has one and was not chosen by it, then the memory operand. */
  readModrm(registerOnly: boolean): void {
    if (this.modrm < 0) this.modrm = this.next();
    if (this.modrm < 0xc0 && !registerOnly) this.memory = this.addressBits === 16 ? this.#memory16() : this.#memory();
  }

  #memory16(): MemoryFields {
    const mod = this.modrm >> 6;
    const rm = this.modrm & 7;
    const direct = mod === 0 && rm === 6;
    const base = direct ? -1 : [3, 3, 5, 5, 6, 7, 5, 3][rm]!;
    const index = [6, 7, 6, 7, -1, -1, -1, -1][rm]!;
    const displacement = direct ? this.signed(2) : this.signed(mod === 3 ? 0 : mod);
    return { base, index, scale: 0, displacement };
  }

  #memory(): MemoryFields {
    const mod = this.modrm >> 6;
    let base = this.rm;
    let index = -1;
    let scale = 0;
    if ((this.modrm & 7) === 4) {
      const sib = this.next();
      index = ((sib >> 3) & 7) | ((this.rex & 2) << 2);
      scale = sib >> 6;
      if (index === 4) {
        index = -1;
        scale = 0;
      }
      base = (sib & 7) | ((this.rex & 1) << 3);
      if ((sib & 7) === 5 && mod === 0) return { base: -1, index, scale, displacement: this.signed(4) };
    } else if ((this.modrm & 7) === 5 && mod === 0) {
      return { base: this.mode === 64 ? 16 : -1, index, scale, displacement: this.signed(4) };
    }
    return { base, index, scale, displacement: mod === 1 ? this.signed(1) : mod === 2 ? this.signed(4) : 0n };
  }
}

/** How much a row says about its place: the fullest one answers. */
function weight(r: Row): number {
  return Number(r[2] >= 0) + Number(r[3] >= 0) + Number(r[4] !== 0) + Number(r[5] !== 15) + Number(r[6] !== 0);
}
