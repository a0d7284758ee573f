// How much is generated: one region for code that belongs together.
import { expect, it } from "vitest";
import { type JitStatistics, loadImage, Machine } from "../../src/index.ts";
import { assembledImage } from "./assembled.ts";

function generated(source: string): JitStatistics {
  const machine = new Machine({ memory: 1 << 20, jit: { threshold: 500 } });
  loadImage(machine, assembledImage(32, source));
  expect(machine.run({ maxInstructions: 20_000_000 }).reason).toBe("halt");
  return machine.jitStatistics;
}

it("a switch through a table is in the region of its loop", () => {
  const { functions } = generated(`
  mov ecx, 1000000
next: mov eax, ecx
  and eax, 3
  jmp [table + eax * 4]
zero: add edx, 1
  jmp done
one: sub edx, 3
  jmp done
two: xor edx, ecx
  jmp done
three: rol edx, 1
done: dec ecx
  jnz next
  hlt
align 4
table: dd zero, one, two, three`);
  expect(functions).toBeLessThanOrEqual(2);
});

it("nested loops are one region, wherever a budget ended in them", () => {
  const { functions } = generated(`
  mov esi, 40
outer: mov edi, 20
middle: mov ecx, 3000
inner: add eax, ecx
  rol eax, 3
  dec ecx
  jnz inner
  dec edi
  jnz middle
  dec esi
  jnz outer
  hlt`);
  expect(functions).toBeLessThanOrEqual(2);
});

const CALLS = (rounds: number) => `
  mov ecx, ${rounds}
next: mov eax, ecx
  and eax, 3
  mov ebx, [table + eax * 4]
  call ebx
  dec ecx
  jnz next
  hlt
zero: add edx, 1
  ret
one: sub edx, 3
  ret
two: xor edx, ecx
  ret
three: rol edx, 1
  ret
align 4
table: dd zero, one, two, three`;

it("a region is made anew with the functions that it calls through a register, and then no more", () => {
  // the loop and the functions are hot at the same time: one module, and a second one when the loop takes the functions in
  expect(generated(CALLS(300_000)).modules).toBe(2);
  expect(generated(CALLS(1_500_000)).modules).toBe(2);
});
