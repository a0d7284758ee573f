import { describe, expect, it } from "vitest";
import { disassemble } from "../../src/index.ts";

const text = (mode: 16 | 32 | 64, hex: string) =>
  disassemble(Uint8Array.from(Buffer.from(hex.replaceAll(" ", ""), "hex")), { mode, address: 0x1000 }).text;

describe("disassemble", () => {
  it.each([
    [64, "0f a2", "cpuid"],
    [64, "f0 48 0f c7 0e", "lock cmpxchg16b xmmword ptr [rsi]"],
    [64, "c4 e2 f3 f6 c2", "mulx rax, rcx, rdx"],
    [32, "c4 06", "les eax, fword ptr [esi]"],
    [16, "67 66 8b 44 24 10", "mov eax, dword ptr [esp+0x10]"],
    [64, "48 8b 05 10 00 00 00", "mov rax, qword ptr [0x1017]"],
    [64, "eb fe", "jmp 0x1000"],
    [16, "ea 00 00 ff ff", "jmp far 0xffff:0x0"],
    [64, "f3 48 a5", "rep movsq qword ptr [rdi], qword ptr [rsi]"],
    [64, "f3 90", "pause"],
    [64, "ea", "(bad)"],
    [64, "f0 0f a2", "(bad)"],
  ] as const)("%i-bit %s", (mode, hex, expected) => {
    expect(text(mode, hex)).toBe(expected);
  });

  it("says where a branch goes and how long the instruction is", () => {
    const bytes = Uint8Array.of(0xe8, 0xfb, 0xff, 0xff, 0xff, 0x90);
    expect(disassemble(bytes, { mode: 64, address: 0x1000n })).toMatchObject({
      length: 5,
      target: 0x1000n,
      valid: true,
    });
  });

  it("does not read past the bytes it was given", () => {
    expect(disassemble(Uint8Array.of(0x48, 0x8b), { mode: 64 })).toMatchObject({ length: 2, valid: false });
  });
});
