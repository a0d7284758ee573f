// Faults that generated code meets again and again, and the way back: RF of the frame, of RFLAGS after IRET and after the
// instruction that faulted, error codes, and tables that the host changes. @sdm 3A "Handler Calling Procedures",
// 3B "Instruction-Breakpoint Exception Condition", 3A "Page-Fault Exceptions"
import { describe, expect, it } from "vitest";
import { type JitOptions, loadImage, Machine, parseFlat } from "../../src/index.ts";
import { assembled, putTables } from "./assembled.ts";
import { generator } from "./lockstep.ts";

const MEMORY = 4 << 20;
const CODE = 0x8000;
const HANDLER = 0x9000;
const UD_HANDLER = 0x9800;
const GDT = 0xa000;
const IDT = 0xa100;
const COUNTS = 0x20000; // one number an error code, then those of #UD and of frames without RF
const UD_COUNT = COUNTS + 32;
const NO_RF = COUNTS + 36;
const DIRECTORY = 0x30000;
const TABLE = 0x31000;
const PAGES = 0x100000; // sixteen that come and go
const PTE = TABLE + (PAGES >> 12) * 4;
const RF = 0x10000n;

/** Each round reads a page that is not present, writes to it when it is read-only, meets UD2 and takes the page away. */
function image(rounds: number): Uint8Array {
  const bytes = new Uint8Array(0x40000);
  const view = new DataView(bytes.buffer);
  const place = (at: number, source: string) => bytes.set(assembled(`bits 32\norg ${at}\n${source}`), at);
  place(
    CODE,
    `lgdt [${GDT + 0x80}]
  lidt [${GDT + 0x88}]
  mov esp, 0x7000
  mov eax, ${DIRECTORY}
  mov cr3, eax
  mov eax, cr0
  or eax, 0x80010000
  mov cr0, eax
  mov ecx, ${rounds}
  xor ebp, ebp
next:
  mov edi, ecx
  and edi, 15
  lea esi, [${PTE}+edi*4]
  shl edi, 12
  add edi, ${PAGES}
  add ebp, [edi]
  inc dword [edi]
  ud2
  mov dword [esi], 0
  dec ecx
  jnz next
  hlt`,
  );
  place(
    HANDLER,
    `  xchg eax, [esp]
  inc dword [${COUNTS}+eax*4]
  test dword [esp+12], 0x10000
  jnz marked
  inc dword [${NO_RF}]
marked:
  mov eax, cr2
  cmp dword [esi], 0
  je absent
  or dword [esi], 2
  jmp done
absent:
  and eax, 0xfffff000
  or eax, 1
  mov [esi], eax
done:
  pop eax
  iret`,
  );
  place(
    UD_HANDLER,
    `  inc dword [${UD_COUNT}]
  test dword [esp+8], 0x10000
  jnz marked
  inc dword [${NO_RF}]
marked:
  add dword [esp], 2
  iret`,
  );
  putTables(view, GDT, IDT);
  view.setBigUint64(IDT + 6 * 8, 0x00008e0000080000n | BigInt(UD_HANDLER), true);
  view.setBigUint64(IDT + 14 * 8, 0x00008e0000080000n | BigInt(HANDLER), true);
  view.setUint32(DIRECTORY, TABLE | 3, true);
  for (let i = 0; i < 1024; i++) {
    const page = i << 12;
    const comes = page >= PAGES && page < PAGES + 0x10000;
    view.setUint32(TABLE + i * 4, comes ? 0 : page | 3, true);
  }
  return bytes;
}

function start(rounds: number, jit: false | JitOptions): Machine {
  const machine = new Machine({ memory: MEMORY, jit });
  loadImage(machine, parseFlat(image(rounds).subarray(CODE), { mode: "protected", load: CODE, entry: CODE }));
  return machine;
}

const TIERS: readonly (readonly [string, false | JitOptions])[] = [
  ["interpreter", false],
  ["generated code", { threshold: 1 }],
  ["generated code, late", { threshold: 50 }],
];

const word = (machine: Machine, at: number) => Buffer.from(machine.readMemory(at, 4)).readUInt32LE();

describe.each(TIERS)("%s", (_, jit) => {
  it("delivers each fault with its error code and RF in the frame", () => {
    const rounds = 4000;
    const machine = start(rounds, jit);
    expect(machine.run({ maxInstructions: 1_000_000 }).reason).toBe("halt");
    const counts = [0, 1, 2, 3].map((error) => word(machine, COUNTS + error * 4));
    // not present; a write to a read-only page
    expect(counts).toEqual([rounds, 0, 0, rounds]);
    expect(word(machine, UD_COUNT)).toBe(rounds);
    expect(word(machine, NO_RF)).toBe(0);
    for (let i = 0; i < 16; i++) expect(word(machine, PAGES + i * 0x1000)).toBe(rounds / 16);
    // 16 pages, each read as 0, 1, 2, ...
    expect(Number(machine.registers.rbp)).toBe((16 * (rounds / 16) * (rounds / 16 - 1)) / 2);
  });

  it("leaves RF set from IRET to the next instruction, wherever it stops", () => {
    const random = generator(5);
    const machine = start(1 << 20, jit);
    machine.run({ maxInstructions: 40_000 });
    let set = 0;
    for (let i = 0; i < 4000; i++) {
      machine.run({ maxInstructions: 1 + random(random(8) ? 60 : 600) });
      const before = machine.readMemory(Number(machine.registers.rip), 1)[0]!;
      const rf = (machine.registers.rflags & RF) !== 0n;
      if (rf) set++;
      machine.run({ maxInstructions: 1 });
      const after = (machine.registers.rflags & RF) !== 0n;
      // IRET alone leaves it set: its image comes from a fault
      expect(after, `after ${before.toString(16)}`).toBe(before === 0xcf);
    }
    expect(set).toBeGreaterThan(20);
  });

  it("sees a page that the host maps while the guest handles its fault", () => {
    const random = generator(6);
    const machine = start(1 << 20, jit);
    machine.run({ maxInstructions: 40_000 });
    let mapped = 0;
    for (let i = 0; i < 3000; i++) {
      machine.run({ maxInstructions: 1 + random(50) });
      const { rip, rdi, rsi } = machine.registers.read();
      const reads = machine.readMemory(Number(rip), 2);
      if (reads[0] !== 0x03 || reads[1] !== 0x2f || word(machine, Number(rsi)) !== 0) continue;
      // add ebp, [edi] would fault
      machine.writeMemory(Number(rsi), new Uint8Array(new Uint32Array([Number(rdi) | 3]).buffer));
      machine.run({ maxInstructions: 1 });
      expect(machine.registers.rip).toBe(rip + 2n);
      mapped++;
    }
    expect(mapped).toBeGreaterThan(20);
  });

  it("leaves RF set when a callback stops the instruction after IRET", () => {
    const machine = start(1, jit);
    const at = 0x8800;
    const bytes = assembled(`bits 32
org ${at}
  lgdt [${GDT + 0x80}]
  mov esp, 0x7000
again:
  push dword 0x10002
  push dword 8
  push dword port
  iret
port:
  in al, dx
  dec ecx
  jnz again`);
    machine.writeMemory(at, bytes);
    machine.registers.write({ rip: at, rcx: 2000, rdx: 0x5000 });
    let calls = 0;
    machine.onPortIn(0x5000, () => {
      if (++calls % 100 === 0) throw new Error("stop");
      return 0;
    });
    for (let i = 0; i < 5; i++) {
      expect(() => machine.run({ maxInstructions: 10_000 })).toThrow("stop");
      expect(machine.registers.rflags & RF).toBe(RF);
      machine.run({ maxInstructions: 1 });
      expect(machine.registers.rflags & RF).toBe(0n);
    }
  });
});
