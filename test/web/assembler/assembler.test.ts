// The assembler against nasm's recorded answers (record.ts), and back through the disassembler.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { disassemble } from "../../../src/disasm/index.ts";
import { assemble } from "../../../web/assembler/index.ts";

type Answers = readonly (readonly [line: string, hex: string | null])[];
const recorded = JSON.parse(readFileSync(new URL("./nasm.json", import.meta.url), "utf8")) as Record<string, Answers>;

/** Where this assembler leaves nasm 2.16: its bytes are not expected. */
const OTHERWISE: readonly (readonly [RegExp, string])[] = [
  [/^invpcid/, "nasm puts a REX.W before it that changes nothing"],
  [/^push 0x(12345678|ffffffff)$/, "nasm cuts a value that does not fit; here it is an error"],
];
/** What nasm refuses and this assembler takes. */
const MORE: readonly (readonly [RegExp, string])[] = [
  [/\[rip/, "addresses written with RIP, as the disassembler shows them"],
  [/^sysretq|^sysexitq/, "nasm writes o64 sysret"],
  [/^bswap ([a-z]{2}|r\d+w)$/, "16-bit BSWAP, whose result is undefined"],
  [/^nop .*,/, "the NOP with two operands"],
  [/^ud[01] /, "UD0 and UD1 in all sizes"],
  [/^vm(ptrld|clear|xon|ptrst) qword/, "the size of a VMCS pointer written out"],
  [/^movsxd ([a-z]{2,3}|r\d+d),/, "MOVSXD without REX.W, which moves"],
  [/^mov[sz]x ([a-z]{2}|r\d+w), ([a-z]{2}|r\d+w|word .*)$/, "MOVZX from 16 to 16 bits"],
];

const hexOf = (bytes: Uint8Array): string => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");

function alone(mode: number, line: string) {
  return assemble(`bits ${mode}\norg 0x4000\n${line}`);
}

describe.each([16, 32, 64] as const)("%i-bit code", (mode) => {
  const lines = recorded[mode]!;

  it("has nasm's bytes", () => {
    const wrong: string[] = [];
    for (const [line, hex] of lines) {
      if (hex === null || OTHERWISE.some(([pattern]) => pattern.test(line))) continue;
      const { bytes, errors } = alone(mode, line);
      const mine = errors[0]?.message ?? hexOf(bytes);
      if (mine !== hex) wrong.push(`${line}: nasm ${hex}, here ${mine}`);
    }
    expect(wrong).toEqual([]);
  });

  it("takes nothing that nasm refuses", () => {
    const taken = lines
      .filter(([line, hex]) => hex === null && !MORE.some(([pattern]) => pattern.test(line)))
      .filter(([line]) => alone(mode, line).errors.length === 0)
      .map(([line]) => line);
    expect(taken).toEqual([]);
  });

  it("reads as the same instruction", () => {
    const wrong: string[] = [];
    for (const [line] of lines) {
      const { bytes, errors } = alone(mode, line);
      if (errors.length > 0) continue;
      const { valid, length, text } = disassemble(bytes, { mode, address: 0x4000 });
      if (!valid || length !== bytes.length) wrong.push(`${line}: ${hexOf(bytes)} is ${text} of ${length} bytes`);
    }
    expect(wrong).toEqual([]);
  });
});

/** Errors as line:column message. */
const errorsOf = (source: string): string[] =>
  assemble(source).errors.map(({ line, column, message }) => `${line}:${column} ${message}`);

describe("a program", () => {
  it("has the bytes that nasm gives the boot sector", () => {
    const guests = new URL("../../../fixtures/guests/", import.meta.url);
    const { bytes, origin, mode, errors } = assemble(readFileSync(new URL("src/boot-sector.asm", guests), "utf8"));
    expect(errors).toEqual([]);
    expect([origin, mode]).toEqual([0x7c00, 16]);
    expect(hexOf(bytes)).toBe(readFileSync(new URL("bin/boot-sector.bin", guests)).toString("hex"));
  });

  it("grows the jumps that need it", () => {
    const { bytes } = assemble("bits 32\norg 0\njmp far_away\njmp near_by\nnear_by: times 200 nop\nfar_away: ret");
    expect(hexOf(bytes.subarray(0, 8))).toBe("e9ca000000eb0090");
  });

  it("has short jumps where nothing says the origin, too", () => {
    const { bytes } = assemble("bits 64\njz ahead\nnop\nahead: jmp ahead");
    expect(hexOf(bytes)).toBe("740190ebfe");
  });

  it("says which bytes belong to which line", () => {
    const { lines } = assemble("bits 64\norg 0x100000\nstart:\n mov eax, 1 ; one\n\n db 1, 2\n hlt");
    expect(lines).toEqual([
      { line: 4, address: 0x100000, length: 5, code: true },
      { line: 6, address: 0x100005, length: 2, code: false },
      { line: 7, address: 0x100007, length: 1, code: true },
    ]);
  });

  it("starts where a flat binary is loaded", () => {
    expect(assemble("hlt").origin).toBe(0x7c00);
    expect(assemble("bits 64\nhere: dq here\nhlt").labels.get("here")).toBe(0x100000n);
  });

  it("knows constants, local labels and nasm's numbers", () => {
    const source =
      "org 0\nSIZE equ 3*4\nfirst:\n.end: db SIZE, 0x1F, 1fh, 0b101, 'A', 7o\nother:\n.end: dw .end, first.end, $, $$";
    const { bytes, errors } = assemble(source);
    expect(errors).toEqual([]);
    expect(hexOf(bytes)).toBe("0c1f1f0541070600000006000000");
  });
});

describe("mistakes", () => {
  it("are all told, with their places", () => {
    expect(errorsOf("bits 64\nmov eax, [rbx\nnop\n  moov eax, 1\nadd [rdi], 1\njmp nowhere")).toEqual([
      '2:14 "]" is missing',
      '4:3 "moov" is no instruction of this processor and no directive',
      "5:5 say the size of the memory operand: byte, word, dword, qword",
      '6:5 "nowhere" is defined nowhere',
    ]);
  });

  it.each([
    ["bits 64\npusha", "2:1 pusha does not exist in 64-bit code"],
    ["bits 32\nmov r8d, 1", "2:1 registers R8 to R15 exist in 64-bit code only"],
    ["bits 64\nmov ah, r8b", "2:1 AH, BH, CH and DH cannot stand beside a register that needs a REX prefix"],
    ["bits 16\nmov al, [ax]", "2:1 16-bit addresses are made of BX or BP and SI or DI: [bx+si], [bp+di+4], [si]"],
    ["bits 64\nmov al, [rax+rsp*2]", "2:1 the stack pointer cannot be scaled"],
    [
      "bits 64\nlock mov [rax], eax",
      "2:6 lock is for a memory destination of ADD, XCHG and the like, not for this mov",
    ],
    ["jmp short away\ntimes 200 nop\naway: nop", "1:1 the target is too far away for this jump"],
    ["db 300", "1:4 300 does not fit into 8 bits"],
    ['db "open', "1:4 the string has no end"],
    ["a: nop\na: nop", '2:1 "a" is defined twice'],
    ["times 9999999 db 0", "1:7 9999999 is not in 0 to 1048576"],
    ["resb 1048576\nnop", "2:1 the program is longer than 1048576 bytes"],
    ["%macro x 0", '1:1 "%" starts no statement'],
    ["section .text", "1:1 section is not for this assembler, which makes flat binaries"],
    ["dd 1/0", "1:5 division by zero"],
    ["eax: nop", "1:1 eax is a register, not a label"],
    ["nop nop", '1:5 "nop" is defined nowhere'],
  ])("%j", (source, message) => {
    expect(errorsOf(source)[0]).toBe(message);
  });
});
