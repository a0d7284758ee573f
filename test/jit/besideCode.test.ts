// Stores that meet frames with code: variables and stacks beside code, and those that change code, without paging (32-bit code) and
// with it (64-bit code).
import { describe, expect, it } from "vitest";
import type { Machine } from "../../src/index.ts";
import { assembled, assembledMachine } from "./assembled.ts";

const ROUNDS = 3000;
const SUM = BigInt((ROUNDS * (ROUNDS + 1)) / 2);
const WORD = 0xffffffffn;

type Bits = 32 | 64;

/** The machine after the guest halted, in the interpreter and with code generated at once. */
function* halted(bits: Bits, source: string): Generator<Machine> {
  for (const jit of [false, { threshold: 2 }] as const) {
    const machine = assembledMachine(bits, source, jit);
    // in pieces, so that what was met again and again is generated anew
    let exit = machine.run({ maxInstructions: 50 });
    while (exit.reason === "instructions" && machine.instructionCount < 100 * ROUNDS) {
      exit = machine.run({ maxInstructions: 50 });
    }
    expect(exit.reason).toBe("halt");
    yield machine;
  }
}

/** ecx goes from ROUNDS down to 1; `after` stands behind the code. */
const loop = (body: string, after: string) => `  mov esp, 0x14000
  xor eax, eax
  xor edx, edx
  mov ecx, ${ROUNDS}
  jmp next
  align 64
next:
${body}
  dec ecx
  jnz next
  hlt
${after}`;

/** A variable on the same 64-byte line as code, on another one of the page, over the end of a line, on the next page. */
const PLACES = {
  "the same line": "variable: dd 0, 0",
  "the same page": "  align 64\n  times 64 db 0\nvariable: dd 0, 0",
  "two lines": "  align 64\n  times 62 db 0\nvariable: dd 0, 0",
  "two pages": "  times 0x1000 - 2 - ($ - $$) db 0\nvariable: dd 0, 0",
};

/** What a round does, and what is in the variable and in eax at the end. */
const STORES: readonly [name: string, body: string, variable: bigint, eax?: bigint][] = [
  ["MOV", "  mov [variable], ecx\n  add eax, [variable]", 1n, SUM],
  ["MOV of an immediate", "  mov dword [variable], 7\n  add eax, [variable]", 7n, BigInt(7 * ROUNDS)],
  ["MOV of AL", "  mov al, cl\n  mov [variable], al", 1n],
  ["ADD", "  add [variable], ecx", SUM],
  ["SUB with the flags seen", "  sub [variable], ecx\n  adc eax, 0", BigInt.asUintN(32, -SUM), 1n],
  ["INC with the flags set again", "  inc dword [variable]\n  test ecx, ecx\n  setnz al", BigInt(ROUNDS), 1n],
  ["NEG", "  mov [variable], ecx\n  neg dword [variable]", WORD],
  ["SHL", "  mov [variable], ecx\n  shl dword [variable], 3", 8n],
  ["SETcc", "  cmp ecx, 1\n  sete [variable]", 1n],
  ["XCHG", "  mov eax, ecx\n  xchg eax, [variable]\n  add edx, eax", 1n],
  ["XADD", "  mov eax, ecx\n  xadd [variable], eax", SUM, SUM - 1n],
  ["CMPXCHG", "  mov eax, [variable]\n  mov edx, ecx\n  cmpxchg [variable], edx", 1n],
  ["BTS", "  mov edx, 5\n  bts [variable], edx", 32n],
  ["BTC of a constant bit", "  btc dword [variable], 0", 0n],
  ["through a register", "  mov edi, variable\n  add [edi], ecx\n  add eax, [edi]", SUM],
  ["STOSD", "  mov edi, variable\n  mov eax, ecx\n  stosd", 1n],
  ["MOVSD", "  mov [0x14000], ecx\n  mov esi, 0x14000\n  mov edi, variable\n  movsd", 1n],
  [
    "REP STOSB",
    "  mov edx, ecx\n  mov edi, variable\n  mov ecx, 4\n  mov al, dl\n  rep stosb\n  mov ecx, edx",
    0x01010101n,
  ],
];

function readVariable(machine: Machine, source: string, bits: Bits): bigint {
  const bytes = assembled(`bits ${bits}\norg 0x8000\n${source}\n  dd variable`);
  const address = new DataView(bytes.buffer, bytes.byteOffset).getUint32(bytes.length - 4, true);
  const [a, b, c, d] = machine.readMemory(address, 4);
  return BigInt.asUintN(32, BigInt(a! | (b! << 8) | (c! << 16) | (d! << 24)));
}

describe.each([32, 64] as const)("in %i-bit code", (bits) => {
  describe.each(Object.entries(PLACES))("a variable on %s", (_, after) => {
    it.each(STORES)("takes a %s", (_name, body, variable, eax) => {
      const source = loop(body, after);
      for (const machine of halted(bits, source)) {
        expect(readVariable(machine, source, bits)).toBe(variable);
        if (eax !== undefined) expect(machine.registers.rax & WORD).toBe(eax & WORD);
        // MOV ESP, XOR, XOR, MOV, JMP, HLT
        const round = body.split("\n").length + 2;
        expect(machine.instructionCount).toBe(BigInt(6 + ROUNDS * round));
      }
    });
  });

  it("a stack below the code takes pushes and calls", () => {
    const native = bits === 64 ? "r" : "e";
    const source = `  jmp start
  times 200 db 0
stack:
  nop
start:
  mov esp, stack
  xor ${native}ax, ${native}ax
  mov ecx, ${ROUNDS}
next:
  push ${native}cx
  push 3
  mov ${native}bx, function
  call function
  call ${native}bx
  pop ${native}dx
  add ${native}ax, ${native}dx
  pop ${native}cx
  dec ecx
  jnz next
  hlt
function:
  push ${native}ax
  add ${native}ax, [${native}sp + ${2 * (bits / 8)}]
  pop ${native}dx
  sub ${native}ax, ${native}dx
  lea ${native}ax, [${native}ax + ${native}dx]
  ret`;
    for (const machine of halted(bits, source)) {
      expect(machine.registers.rax).toBe(BigInt(9 * ROUNDS));
      expect(machine.instructionCount).toBe(BigInt(5 + ROUNDS * (10 + 2 * 6)));
    }
  });

  it("an ADD to the immediate of the next instruction counts for that", () => {
    // mov edx, imm32: the immediate is one byte behind its start
    const source = loop("  inc dword [patched + 1]\n  inc eax\npatched:\n  mov edx, 0\n  add ebx, edx", "");
    for (const machine of halted(bits, `  xor ebx, ebx\n${source}`)) expect(machine.registers.rbx & WORD).toBe(SUM);
  });

  it("flags of an ADD to code are those that the next instruction sees", () => {
    const source = loop("  add dword [patched + 1], 0x10000000\npatched:\n  mov edx, 0\n  adc eax, 0", "");
    // every 16th addition has a carry
    for (const machine of halted(bits, source)) expect(machine.registers.rax).toBe(BigInt(Math.floor(ROUNDS / 16)));
  });

  it("flags of an ADD that replaces an instruction that sets them with one that reads them", () => {
    // TEST EAX, EAX, NOP, NOP becomes ADC EDX, 0, NOP, long after the ADD was seen to store beside code
    const [test, adc] = [0x9090c085n, 0x9000d283n];
    const added = BigInt.asUintN(32, adc - test);
    const source = loop(
      `  mov edi, variable
  cmp ecx, ${ROUNDS / 2}
  cmove edi, esi
  add [edi], ebx
replaced:
  test eax, eax
  nop
  nop`,
      PLACES["the same page"],
    );
    let [variable, carries] = [0n, 0n];
    for (let i = ROUNDS; i > 0; i--) {
      const before = i === ROUNDS / 2 ? test : variable;
      if (i !== ROUNDS / 2) variable = BigInt.asUintN(32, variable + added);
      if (i <= ROUNDS / 2) carries += (before + added) >> 32n;
    }
    for (const machine of halted(bits, `  mov ebx, ${added}\n  mov esi, replaced\n${source}`)) {
      expect(machine.registers.rdx).toBe(carries);
    }
  });

  it("an instruction that is replaced by a PUSH runs as it is then", () => {
    // INC EAX, NOP and DEC EAX, NOP in turns (FF /0, FF /1), filled up with NOPs
    const word = bits === 64 ? "0x90909090c0ff" : "0x9090c0ff";
    const register = bits === 64 ? "rdx" : "edx";
    const source = loop(
      `  mov ebp, esp
  mov esp, replaced + ${bits / 8}
  mov ${register}, ${word}
  test cl, 1
  jz even
  xor edx, 0x800
even:
  push ${register}
replaced:
  times ${bits / 8} nop
  mov esp, ebp`,
      "",
    );
    for (const machine of halted(bits, source)) expect(machine.registers.rax & WORD).toBe(0n);
  });

  it("a store over the end of a page changes the code that begins the next one", () => {
    // mov edx, imm32 at the start of a page: B8+2, imm
    const source = loop(
      `  mov ebx, ecx
  and ebx, 0xff
  shl ebx, 24
  or ebx, 0x00ba1234
  mov [page - 2], ebx
  call page
  add eax, edx`,
      `  align 4096
page:
  mov edx, 0
  ret`,
    );
    let sum = 0;
    for (let i = ROUNDS; i > 0; i--) sum += i & 0xff;
    for (const machine of halted(bits, source)) expect(machine.registers.rax).toBe(BigInt(sum));
  });

  it("a CALL that stores its return address over its target runs what is there then", () => {
    // the address 0x9090 is NOP, NOP and ADD [eax], AL, in 64-bit code three of these
    const source = `  mov ecx, ${ROUNDS}
  mov eax, 0x14001
next:
  mov esp, target + ${bits / 8}
  jmp caller
  times 0x9090 - 5 - ($ - $$) - 0x8000 nop
caller:
  call target
  dec ecx
  jnz next
  hlt
  align 64
target:
  times ${bits / 8} nop
  jmp 0x9090`;
    for (const machine of halted(bits, source)) {
      expect(machine.readMemory(0x14001, 1)[0]).toBe((ROUNDS * (bits === 64 ? 3 : 1)) & 255);
    }
  });
});
