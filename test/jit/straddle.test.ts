// Accesses that generated code checks together, where their bytes are on two pages: a stack frame over the end of a page.
import { expect, it } from "vitest";
import { assembledMachine } from "./assembled.ts";

const ROUNDS = 3000;

/** rax after so many rounds of the loop below. */
function expected(): bigint {
  let rax = 0n;
  let middle = 5n;
  for (let rcx = BigInt(ROUNDS); rcx > 0n; rcx--) {
    const low = rax;
    rax = BigInt.asUintN(64, rax + middle + rcx);
    middle = BigInt.asUintN(64, middle ^ rax);
    rax = BigInt.asUintN(64, rax + low);
  }
  return rax;
}

it.each([0x10100, 0x10ff0, 0x10ff8, 0x10ffc, 0x10fec])("a frame at %i", (rsp) => {
  const source = `  mov ecx, ${ROUNDS}
  mov esp, ${rsp}
  xor eax, eax
  mov qword [rsp + 16], 5
next: mov [rsp], rax
  add rax, [rsp + 16]
  mov [rsp + 24], rcx
  add rax, [rsp + 24]
  xor [rsp + 16], rax
  add rax, [rsp]
  dec rcx
  jnz next
  hlt`;
  // few rounds until what was left again and again is generated anew
  for (const jit of [false, { threshold: 2 }] as const) {
    const machine = assembledMachine(64, source, jit);
    while (machine.run({ maxInstructions: 50 }).reason !== "halt") {}
    expect(machine.registers.rax).toBe(expected());
    expect(machine.instructionCount).toBe(BigInt(4 + ROUNDS * 8 + 1));
  }
});
