// SCAS and CMPS with REPE and REPNE in generated code, which looks at 8 bytes at a time: the end at each place there can be one.
import { describe, expect, it } from "vitest";
import { loadImage, Machine, parseFlat } from "../../src/index.ts";

const LOAD = 0x8000;
const SOURCE = 0xa003; // not aligned
const TARGET = 0xb001;
const ELEMENTS = 21;
const VALUE = 0x8180017f; // bytes about the borrow of a search for zeros
const ZF = 1n << 6n;
const CF = 1n;

const u32 = (value: number): number[] => [0, 8, 16, 24].map((shift) => (value >>> shift) & 255);

type Search = { readonly compares: boolean; readonly whileEqual: boolean; readonly size: number };

/** MOV of the operands, the instruction with its prefix, HLT. */
function program({ compares, whileEqual, size }: Search, count: number): Uint8Array {
  const opcode = (compares ? 0xa6 : 0xae) + (size === 1 ? 0 : 1);
  return Uint8Array.from([
    ...[0xbe, ...u32(SOURCE), 0xbf, ...u32(TARGET), 0xb9, ...u32(count), 0xb8, ...u32(VALUE)],
    ...[...(size === 2 ? [0x66] : []), whileEqual ? 0xf3 : 0xf2, opcode, 0xf4],
  ]);
}

/** What the instruction compares and how far it goes. @sdm 2B "REP/REPE/REPZ/REPNE/REPNZ" */
function expected({ compares, whileEqual, size }: Search, count: number, source: DataView, target: DataView) {
  const at = (bytes: DataView, i: number): number =>
    size === 1 ? bytes.getUint8(i) : size === 2 ? bytes.getUint16(2 * i, true) : bytes.getUint32(4 * i, true);
  let i = 0;
  let flags = 0n;
  while (i < count) {
    const a = compares ? at(source, i) : (VALUE >>> 0) & (2 ** (8 * size) - 1);
    const first = compares ? a : size === 4 ? VALUE >>> 0 : a;
    const second = at(target, i++);
    flags = (first === second ? ZF : 0n) | (first < second ? CF : 0n);
    if ((first === second) !== whileEqual) break;
  }
  return {
    rcx: BigInt(count - i),
    rdi: BigInt(TARGET + i * size),
    rsi: BigInt(SOURCE + (compares ? i * size : 0)),
    flags,
  };
}

/** Elements like the value searched, or not, as REPE or REPNE goes on at; one that ends it. */
function memories({ compares, whileEqual, size }: Search, end: number, how: number) {
  const source = new DataView(new ArrayBuffer(ELEMENTS * 4));
  const target = new DataView(new ArrayBuffer(ELEMENTS * 4));
  for (let i = 0; i < ELEMENTS; i++) {
    const value = compares ? (i * 0x1020305 + 7) >>> 0 : VALUE >>> 0;
    const near = [1, 0x100, 0x80, -1][how & 3] ?? 0; // 1 and 0x100: what a borrow would hit
    const equal = whileEqual !== (i === end);
    const other = (value + (size === 1 && near === 0x100 ? 2 : near)) >>> 0;
    const put = (bytes: DataView, what: number): void => {
      if (size === 1) bytes.setUint8(i, what & 255);
      else if (size === 2) bytes.setUint16(2 * i, what & 0xffff, true);
      else bytes.setUint32(4 * i, what, true);
    };
    put(source, value);
    put(target, equal ? value : other);
  }
  return { source, target };
}

const SEARCHES: readonly Search[] = [1, 2, 4].flatMap((size) =>
  [false, true].flatMap((compares) => [false, true].map((whileEqual) => ({ compares, whileEqual, size }))),
);

describe.each(SEARCHES)("$size bytes, CMPS: $compares, REPE: $whileEqual", (search) => {
  it("ends where the manual says, with its flags", () => {
    const machine = new Machine({ memory: 0x20000, extraMemory: 0, jit: { threshold: 1 } });
    const registers = machine.registers;
    for (const count of [1, 2, 7, 8, 9, 16, 17, ELEMENTS]) {
      loadImage(machine, parseFlat(program(search, count), { mode: "protected", load: LOAD, entry: LOAD }));
      for (let end = 0; end <= ELEMENTS; end++) {
        const { source, target } = memories(search, end, end + count);
        machine.writeMemory(SOURCE, new Uint8Array(source.buffer));
        machine.writeMemory(TARGET, new Uint8Array(target.buffer));
        registers.write({ rip: BigInt(LOAD) });
        expect(machine.run({ maxInstructions: 100 }).reason).toBe("halt");
        const { rcx, rdi, rsi, rflags } = registers.read();
        expect({ rcx, rdi, rsi, flags: rflags & (ZF | CF), end, count }).toEqual({
          ...expected(search, count, source, target),
          ...{ end, count },
        });
      }
    }
    expect(machine.jitStatistics.functions).toBeGreaterThan(0);
  });
});
