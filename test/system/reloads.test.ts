// A segment register loaded with the selector it has: the descriptor counts, as it is then.
import { expect, it } from "vitest";
import { assembledMachine } from "../jit/assembled.ts";

const SOURCE = `  lgdt [gdtr]
  mov dword [0x14000], 0x11111111
  mov dword [0x15000], 0x22222222
  mov ax, 0x18
  mov fs, ax
  mov fs, ax
  mov edx, [fs:0]
  mov byte [descriptor + 3], 0x50
  mov esi, [fs:0]
  mov fs, ax
  mov ebx, [fs:0]
  and byte [descriptor + 5], 0xfe
  mov fs, ax
  mov cl, [descriptor + 5]
  mov byte [descriptor + 5], 0x13
  mov fs, ax
  hlt
gdtr: dw 0x1f
  dd gdt
  align 8
gdt: dd 0, 0, 0x0000ffff, 0x00cf9b00, 0x0000ffff, 0x00cf9300
descriptor: dd 0x4000ffff, 0x00409301`;

it.each([false, { threshold: 1 }] as const)("jit: %o", (jit) => {
  const machine = assembledMachine(32, SOURCE, jit);
  // the last load finds a segment that is not present: #NP, and there is no handler
  expect(machine.run({ maxInstructions: 100 }).reason).toBe("shutdown");
  const { rdx, rsi, rbx, rcx, fs } = machine.registers;
  // what was loaded stays until the next load
  expect([rdx, rsi, rbx]).toEqual([0x11111111n, 0x11111111n, 0x22222222n]);
  // the load has set the accessed bit again
  expect(rcx & 0xffn).toBe(0x93n);
  expect(fs.base).toBe(0x15000n);
  expect(machine.instructionCount).toBe(15n);
});
