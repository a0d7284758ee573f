// Regions that lead to each other, and flags that a region leaves for later.
import { expect, it } from "vitest";
import { loadImage, Machine } from "../../src/index.ts";
import { assembledImage } from "./assembled.ts";
import { compareTiers, nothingSeen } from "./tiers.ts";

async function bothTiers(source: string): Promise<{ functions: number; eax: bigint }> {
  const image = assembledImage(32, source);
  const make = (jit: boolean | { threshold: number } | undefined): Machine => {
    const machine = new Machine({ memory: 1 << 20, ...(jit === undefined ? {} : { jit }) });
    loadImage(machine, image);
    return machine;
  };
  const seen = nothingSeen();
  await compareTiers("chain", make as Parameters<typeof compareTiers>[1], seen);
  const machine = make({ threshold: 1 });
  while (machine.run({ maxInstructions: 1000 }).reason !== "halt")
    expect(machine.instructionCount).toBeLessThan(100_000n);
  return { functions: seen.functions, eax: machine.registers.read().rax };
}

/** Sixteen functions, each on a page of its own, called through a table that the program fills. */
const FUNCTIONS = `
  mov edi, 0x20000
  xor ecx, ecx
fill: mov word [edi], 0xc083          ; add eax, imm8; ret
  mov byte [edi + 2], cl
  mov byte [edi + 3], 0xc3
  mov [table + ecx * 4], edi
  add edi, 4096
  inc ecx
  cmp ecx, 16
  jb fill
  xor eax, eax
  mov edx, 100
round: mov ecx, 15
one: call [table + ecx * 4]
  dec ecx
  jns one`;

it("functions on pages of their own are called from region to region", async () => {
  const { functions, eax } = await bothTiers(`${FUNCTIONS}
  dec edx
  jnz round
  hlt
align 4
table: times 16 dd 0`);
  expect(functions).toBeGreaterThan(16);
  expect(eax).toBe(100n * 120n);
});

it("a function that was rewritten is not entered as it was", async () => {
  const { eax } = await bothTiers(`${FUNCTIONS}
  mov dword [0x25000], 0xc380e883 | (1 << 16) ; sub eax, imm8 in place of the fifth
  mov byte [0x25002], 1
  dec edx
  jnz round
  hlt
align 4
table: times 16 dd 0`);
  // the fifth adds 5 in the first round and takes 1 in the others
  expect(eax).toBe(100n * 115n + 5n - 99n);
});

it("AF and OF of INC and DEC are right wherever they are asked for", async () => {
  const ask = (name: string) => `
  pushfd
  pop ebx
  and ebx, 0x8d5
  rol eax, 5
  xor eax, ebx
${name}:`;
  await bothTiers(`
  mov ebp, 300
  mov ecx, 0x7ffffff0
  mov esi, 0x8000000a
again: inc ecx
  jmp a
a: ${ask("b")}
  dec esi
  jo c
c: ${ask("d")}
  stc
  inc cl
  jmp e
e: rcl edx, 1
  seto dl
  dec dx
  jmp f
f: rol edx, 1
  cmc
${ask("g")}
  dec si
  jl h
  add eax, 3
h: inc bh
  jp i
  bsf edi, ecx
i: adc eax, 0
${ask("j")}
  dec ebp
  jnz again
  hlt`);
});
