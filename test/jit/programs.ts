// Random programs for comparing the tiers.

export const LOAD = 0x100000;
const DATA = 0x200000;

export type Random = (below: number) => number;

/** modrm for a register pair, or for [EBX/RBX + disp8] which always points into the data page. */
function operand(random: Random, reg: number): number[] {
  if (random(3) === 0) return [0x43 | (reg << 3), random(64)];
  return [0xc0 | (reg << 3) | pick(random)];
}

/** A register that is neither the counter (ECX), the pointer (EBX) nor the stack pointer. */
function pick(random: Random): number {
  return [0, 2, 5, 6, 7][random(5)]!;
}

function imm(random: Random, bytes: number): number[] {
  const kind = random(4);
  return Array.from({ length: bytes }, () => (kind === 0 ? 0 : kind === 1 ? 0xff : random(256)));
}

/** One instruction without a branch; `wide` allows REX.W. */
function instruction(random: Random, wide: boolean): number[] {
  const rex = wide && random(2) ? [0x48] : [];
  const small = !rex.length && random(4) === 0 ? [0x66] : [];
  const immBytes = small.length ? 2 : 4;
  const reg = pick(random);
  switch (random(18)) {
    case 0:
    case 1:
    case 2:
      return [...small, ...rex, random(8) * 8 + [1, 3][random(2)]!, ...operand(random, reg)];
    case 3:
      return [random(8) * 8 + [0, 2][random(2)]!, ...operand(random, random(2) ? 0 : 2)];
    case 4:
      return [...small, ...rex, 0x81, ...operand(random, random(8)), ...imm(random, immBytes)];
    case 5:
      return [...small, ...rex, 0x83, ...operand(random, random(8)), random(256)];
    case 6:
      return [...small, ...rex, 0xc1, ...operand(random, [0, 1, 4, 5, 7][random(5)]!), random(256)];
    case 7:
      return [...small, ...rex, 0xd3, ...operand(random, [0, 1, 4, 5, 7][random(5)]!)];
    case 8:
      return [...small, ...rex, 0xff, ...operand(random, random(2))];
    case 9:
      return [...small, ...rex, 0xf7, ...operand(random, 2 + random(2))];
    case 10:
      return [...small, ...rex, 0x0f, 0xaf, ...operand(random, reg)];
    case 11:
      return [...rex, 0x0f, [0xb6, 0xb7, 0xbe, 0xbf][random(4)]!, ...operand(random, reg)];
    case 12:
      return [0x0f, 0x90 + random(16), ...operand(random, 0)];
    case 13:
      return [...small, ...rex, 0x0f, 0x40 + random(16), ...operand(random, reg)];
    case 14:
      return [...small, ...rex, random(2) ? 0x8b : 0x89, ...operand(random, reg)];
    case 15:
      return [0x50 + pick(random), 0x58 + pick(random)];
    case 16:
      return [...rex, 0xf7, 0xc0 | ((4 + random(2)) << 3) | pick(random)];
    default:
      return [[0xf8, 0xf9, 0xf5, 0x98, 0x99, 0x90][random(6)]!];
  }
}

/** A loop of random instructions with forward branches, a call, and a counter in ECX; HLT at its end. */
export function program(random: Random, wide: boolean): number[] {
  const code = [0xbb, DATA & 255, (DATA >> 8) & 255, DATA >> 16, 0];
  code.push(0xb9, 200, 0, 0, 0);
  code.push(0xbc, 0, 0, 0x30, 0);
  const start = code.length;
  const parts = 3 + random(5);
  for (let p = 0; p < parts; p++) {
    const body: number[] = [];
    for (let i = 0; i < 1 + random(6); i++) body.push(...instruction(random, wide));
    if (random(2)) code.push(0x70 + random(16), body.length);
    code.push(...body);
  }
  const back = start - (code.length + 3 + 6);
  code.push(0x83, 0xe9, 1, 0x0f, 0x85, back & 255, (back >> 8) & 255, (back >> 16) & 255, (back >> 24) & 255);
  code.push(0xf4);
  return code;
}
