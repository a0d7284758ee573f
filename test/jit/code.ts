// Machine code with labels, for 16, 32 and 64 bits: what the random programs are written with.

export type Bits = 16 | 32 | 64;

export interface Operands {
  /** Operand size in bytes. */
  readonly size: number;
  readonly reg: number;
  /** A register, or else [BX/EBX/RBX + displacement]. */
  readonly rm?: number;
  readonly displacement?: number;
  /** Mandatory prefix. */
  readonly prefix?: number;
}

const word = (value: number, bytes: number): number[] =>
  Array.from({ length: bytes }, (_, i) => Math.floor(value / 2 ** (8 * i)) & 255);

type Fixup = {
  readonly at: number;
  readonly bytes: number;
  readonly value: (address: (label: string) => number) => number;
};

const GDT = [0, 0, 0, 0, 0, 0, 0, 0];

export class Code {
  readonly bits: Bits;
  readonly #bytes: number[] = [];
  readonly #labels = new Map<string, number>();
  readonly #fixups: Fixup[] = [];
  #next = 0;

  constructor(bits: Bits) {
    this.bits = bits;
  }

  /** A label not used before. */
  fresh(): string {
    return `l${this.#next++}`;
  }

  label(name: string): void {
    this.#labels.set(name, this.#bytes.length);
  }

  raw(bytes: readonly number[]): void {
    this.#bytes.push(...bytes);
  }

  #fix(bytes: number, value: Fixup["value"]): void {
    this.#fixups.push({ at: this.#bytes.length, bytes, value });
    this.#bytes.push(...Array<number>(bytes).fill(0));
  }

  /** Size of the code's own addresses and of near-branch displacements. */
  get #native(): number {
    return this.bits === 16 ? 2 : 4;
  }

  #operandPrefix(size: number): number[] {
    if (this.bits === 16) return size === 4 ? [0x66] : [];
    return size === 2 ? [0x66] : [];
  }

  /** Prefixes, opcode, modrm and what follows it. */
  op(opcode: readonly number[], { size, reg, rm, displacement = 0, prefix }: Operands, tail: readonly number[]): void {
    const rex = (size === 8 ? 8 : 0) | (reg >= 8 ? 4 : 0) | (rm !== undefined && rm >= 8 ? 1 : 0);
    if (prefix) this.raw([prefix]);
    this.raw(this.#operandPrefix(size));
    // with REX, registers 4 to 7 of a byte operation are SPL to DIL; SPL must stay
    if (rex) this.raw([0x40 | rex]);
    else if (this.bits === 64 && size === 1) this.raw([0x40]);
    this.raw(opcode);
    if (rm !== undefined) this.raw([0xc0 | ((reg & 7) << 3) | (rm & 7)]);
    else this.raw([(this.bits === 16 ? 0x47 : 0x43) | ((reg & 7) << 3), displacement & 255]);
    this.raw(tail);
  }

  /** A VEX-encoded instruction of the maps 0F38 (2) and 0F3A (3); pp: 0, 66, F3, F2. */
  vex(
    map: number,
    pp: number,
    opcode: number,
    operands: Operands & { vvvv: number },
    tail: readonly number[] = [],
  ): void {
    const { size, reg, rm, vvvv, displacement = 0 } = operands;
    const inverted = (reg >= 8 ? 0 : 0x80) | 0x40 | (rm !== undefined && rm >= 8 ? 0 : 0x20);
    this.raw([0xc4, inverted | map, (size === 8 ? 0x80 : 0) | ((~vvvv & 15) << 3) | pp, opcode]);
    if (rm !== undefined) this.raw([0xc0 | ((reg & 7) << 3) | (rm & 7)]);
    else this.raw([0x43 | ((reg & 7) << 3), displacement & 255]);
    this.raw(tail);
  }

  /** mov r16/r32, imm, zero-extended. */
  loadRegister(register: number, value: number): void {
    this.raw([0xb8 + register, ...word(value, this.#native)]);
  }

  decrement(register: number): void {
    this.raw([0x83, 0xe8 | register, 1]);
  }

  #relative(label: string): void {
    const end = this.#bytes.length + this.#native;
    this.#fix(this.#native, (address) => address(label) - address("") - end);
  }

  /** jcc near; `condition` is the second opcode byte. */
  jump(condition: number, label: string): void {
    this.raw([0x0f, condition]);
    this.#relative(label);
  }

  loop(label: string): void {
    const end = this.#bytes.length + 2;
    this.raw([0xe2]);
    this.#fix(1, (address) => address(label) - address("") - end);
  }

  call(label: string): void {
    this.raw([0xe8]);
    this.#relative(label);
  }

  /** mov eax, address; call eax */
  callRegister(label: string): void {
    this.raw([0xb8]);
    this.#fix(this.#native, (address) => address(label));
    this.raw([0xff, 0xd0]);
  }

  /** Calls an entry of the table by its index: mov esi, n; call [table + esi * size] */
  callTable(index: number): void {
    if (this.bits === 16) {
      this.loadRegister(6, 2 * index);
      this.raw([0xff, 0x94]);
      this.#fix(2, (address) => address("table"));
    } else {
      this.loadRegister(6, index);
      this.raw([0xff, 0x14, this.bits === 64 ? 0xf5 : 0xb5]);
      this.#fix(4, (address) => address("table"));
    }
  }

  table(labels: readonly string[]): void {
    this.label("table");
    for (const label of labels) {
      this.#fix(this.#native, (address) => address(label));
      if (this.bits === 64) this.raw([0, 0, 0, 0]);
    }
  }

  #absolute(value: Fixup["value"]): void {
    this.raw(this.bits === 16 ? [0x06] : this.bits === 64 ? [0x04, 0x25] : [0x05]);
    this.#fix(this.#native, value);
  }

  /** mov [label + offset], al; AL comes from the loop's results. */
  storeAl(label: string, offset: number): void {
    this.raw([0x88]);
    this.#absolute((address) => address(label) + offset);
  }

  /** mov byte [label + offset], value */
  storeImmediate(label: string, offset: number, value: number): void {
    this.raw([0xc6]);
    this.#absolute((address) => address(label) + offset);
    this.raw([value]);
  }

  /** mov byte [skip], end - start */
  setSkip(skip: number, start: string, end: string): void {
    this.raw([0xc6]);
    this.#absolute(() => skip);
    this.#fix(1, (address) => address(end) - address(start));
  }

  /** Stack, and descriptor tables with a handler for every vector when `idt` says where. */
  start({ stack, idt, skip }: { readonly stack: number; readonly idt: number; readonly skip: number }): void {
    this.#skip = skip;
    this.loadRegister(4, stack);
    if (!idt) return;
    if (this.bits === 16) {
      // interrupts 0 and 6 of the real-mode table: mov word [n], handler; mov word [n + 2], 0
      for (const vector of [0, 6]) {
        this.raw([0xc7, 0x06, ...word(4 * vector, 2)]);
        this.#fix(2, (address) => address("handler"));
        this.raw([0xc7, 0x06, ...word(4 * vector + 2, 2), 0, 0]);
      }
      const over = this.fresh();
      this.raw([0xe9]);
      this.#relative(over);
      this.label("handler");
      // push bp; push ax; mov bp, sp; mov al, [skip]; cbw (bytes are few); add [bp + 4], ax; pop ax; pop bp; iret
      this.raw([0x55, 0x50, 0x89, 0xe5, 0xa0, ...word(skip, 2), 0x98, 0x01, 0x46, 4, 0x58, 0x5d, 0xcf]);
      this.label(over);
      return;
    }
    // lgdt, lidt
    this.raw([0x0f, 0x01]);
    this.#tableOperand(2, "gdtr");
    this.raw([0x0f, 0x01]);
    this.#tableOperand(3, "idtr");
  }

  #skip = 0;

  #tableOperand(reg: number, label: string): void {
    this.raw(this.bits === 64 ? [0x04 | (reg << 3), 0x25] : [0x05 | (reg << 3)]);
    this.#fix(4, (address) => address(label));
  }

  /** GDT, IDT and the handler that skips the instruction. */
  handlers(): void {
    const wide = this.bits === 64;
    this.label("handler");
    // push rax; movzx eax, byte [skip]; add [rsp + 8], rax; pop rax; iret
    this.raw([0x50, 0x0f, 0xb6]);
    this.#absolute(() => this.#skip);
    this.raw(wide ? [0x48, 0x01, 0x44, 0x24, 8, 0x58, 0x48, 0xcf] : [0x01, 0x44, 0x24, 4, 0x58, 0xcf]);
    while (this.#bytes.length % 8) this.raw([0]);
    this.label("gdt");
    this.raw(GDT);
    this.raw([0xff, 0xff, 0, 0, 0, 0x9b, wide ? 0xaf : 0xcf, 0, 0xff, 0xff, 0, 0, 0, 0x93, 0xcf, 0]);
    this.label("idt");
    for (let vector = 0; vector < 8; vector++) {
      this.#fix(2, (address) => address("handler"));
      this.raw([0x08, 0, 0, 0x8e, 0, 0]);
      if (wide) this.raw([0, 0, 0, 0, 0, 0, 0, 0]);
    }
    for (const [label, table, limit] of [
      ["gdtr", "gdt", 23],
      ["idtr", "idt", wide ? 127 : 63],
    ] as const) {
      this.label(label);
      this.raw(word(limit, 2));
      this.#fix(4, (address) => address(table));
      this.raw([0, 0, 0, 0]);
    }
  }

  link(load: number): Uint8Array {
    const bytes = Uint8Array.from(this.#bytes);
    const address = (label: string): number => {
      if (label === "") return load;
      const at = this.#labels.get(label);
      if (at === undefined) throw new Error(`no label ${label}`);
      return load + at;
    };
    for (const { at, bytes: count, value } of this.#fixups) {
      const v = value(address);
      if (count === 1 && (v < -128 || v > 127)) throw new Error(`${v} does not fit a byte`);
      bytes.set(word(v, count), at);
    }
    return bytes;
  }
}
