// Guests from source text, by the playground's assembler.
import { expect } from "vitest";
import { type GuestImage, type JitOptions, loadImage, Machine, parseFlat } from "../../src/index.ts";
import { assemble } from "../../web/assembler/index.ts";

/** Machine code of a source without errors. */
export function assembled(source: string): Uint8Array {
  const { bytes, errors } = assemble(source);
  expect(errors).toEqual([]);
  return bytes;
}

/** A guest at 0x8000, where it begins: in protected mode without paging, or in 64-bit mode. */
export function assembledImage(bits: 32 | 64, source: string): GuestImage {
  const bytes = assembled(`bits ${bits}\norg 0x8000\n${source}`);
  return parseFlat(bytes, { mode: bits === 64 ? "long" : "protected", load: 0x8000, entry: 0x8000 });
}

/** A machine with that guest in 128 KiB of RAM. */
export function assembledMachine(bits: 32 | 64, source: string, jit: boolean | JitOptions): Machine {
  const machine = new Machine({ memory: 1 << 17, jit });
  loadImage(machine, assembledImage(bits, source));
  return machine;
}

/** GDT with flat 32-bit code at selector 8 and data at 0x10; at 0x80 from it the operand of LGDT, at 0x88 that of LIDT. */
export function putTables(memory: DataView, gdt: number, idt: number): void {
  memory.setBigUint64(gdt + 8, 0x00cf9b000000ffffn, true);
  memory.setBigUint64(gdt + 16, 0x00cf93000000ffffn, true);
  memory.setUint16(gdt + 0x80, 0x17, true);
  memory.setUint32(gdt + 0x82, gdt, true);
  memory.setUint16(gdt + 0x88, 0x7f, true);
  memory.setUint32(gdt + 0x8a, idt, true);
}
