// Stores to pages with decoded code, and address spaces that take turns: what the processor keeps of either must not show.
import { describe, expect, it } from "vitest";
import { CODE, DATA, descriptor, SEL, TABLES, World } from "../system/world.ts";

const word = (value: number) => [value & 255, (value >> 8) & 255, (value >> 16) & 255, (value >>> 24) & 255];
const ROUNDS = 200;
const SUM = BigInt((ROUNDS * (ROUNDS + 1)) / 2);
const PAGE_DIRECTORY = TABLES + 0x2000;
/** On another page than CODE. */
const FUNCTION = CODE + 0x10000;

/** body(at) with rcx from ROUNDS down to 1, then HLT; rax and rbx begin as 0. */
function loop(body: (at: number) => number[]): number[] {
  const begin = [0xb9, ...word(ROUNDS), 0x31, 0xc0, 0x31, 0xdb]; // mov ecx, ROUNDS; xor eax, eax; xor ebx, ebx
  const inside = [...body(CODE + begin.length), 0xff, 0xc9]; // dec ecx
  return [...begin, ...inside, 0x0f, 0x85, ...word(-inside.length - 6), 0xf4]; // jnz; hlt
}

/** mov [address], ecx */
const storeCount = (address: number) => [0x89, 0x0c, 0x25, ...word(address)];
/** mov edx, value; add ebx, edx: the value stands at offset 1 */
const add = [0xba, ...word(0x12345678), 0x01, 0xd3];
const JMP_NEXT = [0xeb, 0x00];

function halts(w: World, code: number[]): void {
  w.write(CODE, ...code);
  expect(w.machine.run({ maxInstructions: 50_000 }).reason).toBe("halt");
}

/** A store of rcx to the immediate of `add`, which follows after `between`. */
const patched = (between: number[]) => (at: number) => {
  const size = storeCount(0).length + between.length;
  return [...storeCount(at + size + 1), ...between, ...add];
};

describe("a store to the immediate of an instruction", () => {
  it.each([
    ["of the next block", JMP_NEXT],
    ["of its own block", []],
  ])("%s is what that adds", (_, between) => {
    const w = new World("long");
    halts(w, loop(patched(between)));
    expect(w.machine.registers.rbx).toBe(SUM);
  });

  it("of 32-bit code without paging, by a register and by an immediate", () => {
    const w = new World("protected");
    // mov [next + 1], ecx; mov edx, imm; add ebx, edx; mov dword [next + 1], 5; mov edx, imm; add ebx, edx
    halts(
      w,
      loop((at) => {
        const first = [0x89, 0x0d, ...word(at + 7), ...add];
        return [...first, 0xc7, 0x05, ...word(at + first.length + 11), ...word(5), ...add];
      }),
    );
    expect(w.machine.registers.rbx).toBe(SUM + BigInt(5 * ROUNDS));
  });

  it("negative and of 64 bits is sign-extended", () => {
    const w = new World("long");
    // neg ecx; mov [next + 3], ecx; neg ecx; mov rdx, simm32; add rbx, rdx
    const neg = [0xf7, 0xd9];
    halts(
      w,
      loop((at) => [
        ...neg,
        ...storeCount(at + 2 * neg.length + 7 + 3),
        ...neg,
        ...[0x48, 0xc7, 0xc2, 0, 0, 0, 0, 0x48, 0x01, 0xd3],
      ]),
    );
    expect(w.machine.registers.rbx).toBe(BigInt.asUintN(64, -SUM));
  });

  it("is the lower half of one of 64 bits, without a sign", () => {
    const w = new World("long");
    // rol ecx, 31; mov [next + 2], ecx; rol ecx, 1; mov rdx, imm64; add rbx, rdx
    const rotate = (bits: number) => [0xc1, 0xc1, bits];
    halts(
      w,
      loop((at) => [
        ...rotate(31),
        ...storeCount(at + 6 + 7 + 2),
        ...rotate(1),
        ...[0x48, 0xba, 0, 0, 0, 0, 0, 0, 0, 0, 0x48, 0x01, 0xd3],
      ]),
    );
    let sum = 0n;
    for (let n = 1n; n <= ROUNDS; n++) sum += (n >> 1n) + ((n & 1n) << 31n);
    expect(w.machine.registers.rbx).toBe(sum);
  });

  it("faults from where its page is read-only", () => {
    const w = new World("long");
    w.setDescriptor(SEL.code64, descriptor(0x9b, 0xa)); // accessed: delivery writes nothing but the stack
    w.machine.registers.write({ cr0: 0x80010011, rsp: 0x3f0000 }); // WP; on the other page
    const protect = [0x80, 0x24, 0x25, ...word(PAGE_DIRECTORY), 0xfd]; // and byte [PDE], ~RW
    // cmp ecx, 100; jne over
    halts(
      w,
      loop((at) => [0x83, 0xf9, 100, 0x75, protect.length, ...protect, ...patched([])(at + 5 + protect.length)]),
    );
    const seen = w.outcome();
    expect(seen).toMatchObject({ vector: 14, error: 3 });
    expect(w.machine.registers.rcx).toBe(100n);
    expect(w.machine.registers.rbx).toBe(SUM - 5050n);
    expect(w.machine.registers.cr2).toBe(BigInt(seen.rip! + 7 + 1));
  });

  it("sets the dirty bit each time that it was cleared", () => {
    const w = new World("long");
    const clean = [0x80, 0x24, 0x25, ...word(PAGE_DIRECTORY), 0xbf]; // and byte [PDE], ~D
    // ...; mov edx, [PDE]; and edx, D; add eax, edx. The PDE maps itself: the AND sets D before it clears it
    const look = [0x8b, 0x14, 0x25, ...word(PAGE_DIRECTORY), 0x83, 0xe2, 0x40, 0x01, 0xd0];
    halts(
      w,
      loop((at) => [...clean, ...patched([])(at + clean.length), ...look]),
    );
    expect(w.machine.registers.rbx).toBe(SUM);
    expect(w.machine.registers.rax).toBe(BigInt(0x40 * ROUNDS));
  });

  it("meets a data breakpoint that is set later", () => {
    const w = new World("long");
    const code = loop(patched([]));
    w.write(CODE, ...code);
    w.machine.run({ maxInstructions: 300 });
    const { rcx } = w.machine.registers;
    const store = CODE + code.length - 1 - 6 - 2 - add.length - 7;
    w.machine.registers.write({ dr0: store + 7 + 1, dr7: 0xd0002 }); // a write of 4 bytes
    expect(w.machine.run({ maxInstructions: 100 }).reason).toBe("halt");
    expect(w.outcome()).toMatchObject({ vector: 1, rip: store + 7 });
    expect([rcx, rcx - 1n]).toContain(w.machine.registers.rcx);
  });

  it("stops at a watchpoint that is set later", () => {
    const w = new World("long");
    const code = loop(patched([]));
    w.write(CODE, ...code);
    w.machine.run({ maxInstructions: 300 });
    const place = CODE + code.length - 1 - 6 - 2 - add.length + 1;
    w.machine.addWatchpoint(place, { size: 4 });
    expect(w.machine.run({ maxInstructions: 100 }).reason).toBe("watchpoint");
    expect(BigInt(w.read32(place))).toBe(w.machine.registers.rcx);
  });
});

it("data beside code is stored, and code that is written there runs", () => {
  const w = new World("long");
  const data = CODE + 0x800;
  const target = CODE + 0xc00;
  w.write(target, 0xba, 0, 0, 0, 0, 0x01, 0xd3, 0xc3); // mov edx, imm; add ebx, edx; ret
  w.machine.registers.rsp = BigInt(CODE + 0x700);
  halts(
    w,
    loop((at) => {
      const stores = [
        ...storeCount(data),
        ...[0x01, 0x0c, 0x25, ...word(data + 8)], // add [data + 8], ecx
        ...storeCount(target + 1),
      ];
      return [...stores, 0xe8, ...word(target - (at + stores.length + 5))];
    }),
  );
  expect(w.machine.registers.rbx).toBe(SUM);
  expect(w.read32(data)).toBe(1);
  expect(BigInt(w.read32(data + 8))).toBe(SUM);
});

it("a store in one address space is seen by code that runs in another", () => {
  const w = new World("long");
  const other = TABLES + 0x4000;
  w.write64(other, BigInt(TABLES + 0x1000) | 7n);
  w.write(FUNCTION, 0xba, 0, 0, 0, 0, 0x01, 0xd3, 0xc3);
  w.machine.registers.write({ rsi: TABLES, rdi: other });
  halts(
    w,
    loop((at) => {
      // mov cr3, rsi; mov [FUNCTION + 1], ecx; mov cr3, rdi; call FUNCTION
      const before = [0x0f, 0x22, 0xde, ...storeCount(FUNCTION + 1), 0x0f, 0x22, 0xdf];
      return [...before, 0xe8, ...word(FUNCTION - (at + before.length + 5))];
    }),
  );
  expect(w.machine.registers.rbx).toBe(SUM);
});

it("twenty address spaces keep their pages apart", () => {
  const w = new World("long");
  const SPACES = 20;
  const WINDOW = 0x400000;
  const list = DATA - 0x1000;
  for (let i = 0; i < SPACES; i++) {
    const tables = 0x200000 + i * 0x4000;
    w.write64(tables, BigInt(tables + 0x1000) | 7n);
    w.write64(tables + 0x1000, BigInt(tables + 0x2000) | 7n);
    w.write64(tables + 0x2000, 0x87n);
    w.write64(tables + 0x2000 + (WINDOW >> 21) * 8, BigInt(tables + 0x3000) | 7n);
    w.write64(tables + 0x3000, BigInt(DATA + i * 0x1000) | 7n);
    w.write64(list + i * 8, BigInt(tables));
  }
  const space = [
    ...[0x48, 0x8b, 0x04, 0xf5, ...word(list)], // mov rax, [rsi * 8 + list]
    ...[0x0f, 0x22, 0xd8, 0xff, 0xc6], // mov cr3, rax; inc esi
    ...[0x01, 0x34, 0x25, ...word(WINDOW)], // add [WINDOW], esi
    ...[0x83, 0xfe, SPACES], // cmp esi, SPACES
  ];
  halts(
    w,
    loop(() => [0x31, 0xf6, ...space, 0x75, 256 - space.length - 2]), // xor esi, esi; ...; jne
  );
  const counts = Array.from({ length: SPACES }, (_, i) => w.read32(DATA + i * 0x1000));
  expect(counts).toEqual(counts.map((_, i) => ROUNDS * (i + 1)));
});
