// Loops that go to another level and back, on both tiers: system calls lead from region to region.
import { expect, it } from "vitest";
import { assembledImage, assembledMachine } from "./assembled.ts";
import { generator, lockstep } from "./lockstep.ts";

const ROUNDS = 2000;

// SYSENTER goes to selectors 8 and 0x10, SYSEXIT to 0x1b and 0x23; none of them is looked up
const SOURCE = `  mov ecx, 0x174
  mov eax, 8
  xor edx, edx
  wrmsr
  inc ecx
  mov eax, 0x14000
  wrmsr
  inc ecx
  mov eax, kernel
  wrmsr
  mov ebp, ${ROUNDS}
  xor ebx, ebx
  mov edx, user
  mov ecx, 0x15000
  sysexit
user:
  cmp ebp, ${ROUNDS / 2}
  pushf
  pop esi
  mov edx, back
  mov ecx, esp
  sysenter
back:
  adc ebx, 2
  dec ebp
  jnz user
  mov edx, 0
  sysenter
kernel:
  push edx
  test edx, edx
  jz done
  lea edi, [edi + 5]
  pop edx
  cmp edi, 3
  sysexit
done:
  hlt`;

it.each([false, { threshold: 2 }] as const)("SYSENTER and SYSEXIT, jit: %o", (jit) => {
  const machine = assembledMachine(32, SOURCE, jit);
  expect(machine.run({ maxInstructions: 100 * ROUNDS }).reason).toBe("halt");
  const { rbx, rdi, cs, ss } = machine.registers;
  // SYSEXIT leaves the flags: the kernel's CMP never has CF, for EDI is 5 or more
  expect(rbx).toBe(BigInt(2 * ROUNDS));
  expect(rdi).toBe(BigInt(5 * ROUNDS));
  expect([cs.selector, ss.selector]).toEqual([8, 0x10]);
  // up to the first SYSEXIT; 6 + 3 of the user's and 7 of the kernel's a round; MOV, SYSENTER, PUSH, TEST, JZ, HLT
  expect(machine.instructionCount).toBe(BigInt(15 + ROUNDS * (6 + 3 + 7) + 6));
});

it("SYSENTER and SYSEXIT in lock-step, stopped anywhere", () => {
  const random = generator(7);
  expect(lockstep(assembledImage(32, SOURCE), () => 1 + random(40), 100 * ROUNDS, 1 << 17)).toBeGreaterThan(100);
});
