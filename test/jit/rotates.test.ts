// RCL and RCR of every size, by counts on both sides of what turns all the way round: generated code against the manual's operation.
import { describe, expect, it } from "vitest";
import { assembledMachine } from "./assembled.ts";

const VALUES = [0x00000000n, 0xffffffffn, 0x80000001n, 0x12345678n, 0xa5c3e187n];
const COUNTS = [0, 1, 2, 8, 9, 10, 16, 17, 18, 31, 32, 33];
const RESULTS = 0x10000;
const VARIABLE = 0x14000;

/** Operand, CF and OF (for a count of 1) afterwards. @sdm 2B "RCL/RCR/ROL/ROR-Rotate" */
function rotated(name: string, size: number, value: bigint, carry: bigint, count: number) {
  const bits = BigInt(8 * size);
  const masked = BigInt(count & 31) % (bits + 1n);
  let operand = BigInt.asUintN(Number(bits), value);
  let cf = carry;
  const top = (n: bigint) => (operand >> (bits - n)) & 1n;
  let of = name === "rcr" ? top(1n) ^ cf : 0n;
  for (let i = 0n; i < masked; i++) {
    if (name === "rcl") {
      const out = top(1n);
      operand = BigInt.asUintN(Number(bits), (operand << 1n) | cf);
      cf = out;
    } else {
      const out = operand & 1n;
      operand = (operand >> 1n) | (cf << (bits - 1n));
      cf = out;
    }
  }
  if (name === "rcl") of = top(1n) ^ cf;
  return { operand, cf, of };
}

const registers = { 1: "dl", 2: "dx", 4: "edx" } as const;
const words = { 1: "byte", 2: "word", 4: "dword" } as const;

/** A loop over VALUES with both carries, which leaves operand and flags of each at RESULTS; it runs often enough to be generated. */
function results(operation: string, operand: string, cl: number): Map<string, [bigint, bigint]> {
  const memory = operand.includes("[");
  const source = `  mov ebp, 20
again:
  mov edi, ${RESULTS}
  mov esi, values
  mov esp, 0x18000
next:
  mov ebx, 0
carry:
  mov edx, [esi]
  mov [${VARIABLE}], edx
  mov cl, ${cl}
  bt ebx, 0
  ${operation}
  pushf
  ${memory ? `mov edx, [${VARIABLE}]` : ""}
  mov [edi], edx
  pop eax
  mov [edi + 4], eax
  add edi, 8
  inc ebx
  cmp ebx, 2
  jne carry
  add esi, 4
  cmp esi, values + ${4 * VALUES.length}
  jne next
  dec ebp
  jnz again
  hlt
  align 4096
values: dd ${VALUES.join(", ")}`;
  const machine = assembledMachine(32, source, { threshold: 2 });
  expect(machine.run({ maxInstructions: 10_000 }).reason).toBe("halt");
  const found = new Map<string, [bigint, bigint]>();
  const view = new DataView(machine.readMemory(RESULTS, 16 * VALUES.length).buffer);
  VALUES.forEach((value, i) => {
    for (const carry of [0, 1]) {
      const at = 16 * i + 8 * carry;
      found.set(`${value} ${carry}`, [BigInt(view.getUint32(at, true)), BigInt(view.getUint32(at + 4, true))]);
    }
  });
  return found;
}

describe.each(["rcl", "rcr"])("%s", (name) => {
  describe.each([1, 2, 4] as const)("of %i bytes", (size) => {
    it.each([
      ["a register", registers[size]],
      ["memory", `${words[size]} [${VARIABLE}]`],
    ])("in %s", (_, operand) => {
      for (const count of COUNTS) {
        for (const by of ["cl", `${count}`]) {
          for (const [key, [after, flags]] of results(`${name} ${operand}, ${by}`, operand, count)) {
            const [value, carry] = key.split(" ").map(BigInt) as [bigint, bigint];
            const expected = rotated(name, size, value, carry, count);
            const mask = (1n << BigInt(8 * size)) - 1n;
            const where = `${name} ${operand}, ${by} (${count}) of ${value.toString(16)} with CF = ${carry}`;
            expect(after, where).toBe((value & ~mask) | expected.operand);
            expect(flags & 1n, `CF of ${where}`).toBe(expected.cf);
            if ((count & 31) === 1) expect((flags >> 11n) & 1n, `OF of ${where}`).toBe(expected.of);
          }
        }
      }
    });
  });
});
