// Forks take over the processor and memory of forks that were disposed of. Nothing of those may be seen.
import { readFileSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { loadImage, Machine, parseFlat, parseImage, StateError } from "../../src/index.ts";
import { generator } from "../jit/lockstep.ts";
import { GUESTS, loadGuest } from "../machine/fixtureGuests.ts";
import { machineWith } from "../machine/program.ts";

const LIMIT = 60_000;

/** How many memories were made. */
let memories = 0;

beforeEach(() => {
  memories = 0;
  const { Memory } = WebAssembly;
  vi.spyOn(WebAssembly, "Memory").mockImplementation(function make(descriptor: WebAssembly.MemoryDescriptor) {
    memories++;
    return new Memory(descriptor);
  } as never);
});
afterEach(() => void vi.restoreAllMocks());

/**
 * Looks at what a predecessor could have changed: EAX = [200000h] after INC, CPUID leaf 0, IA32_SYSENTER_EIP, a port, the word at
 * 300000h, which MMIO could cover, and code that a predecessor has replaced by other code and run often.
 */
const CURIOUS = [
  ...[0xff, 0x05, 0, 0, 0x20, 0], // l: inc dword [200000h]
  ...[0x31, 0xc0, 0x0f, 0xa2], // xor eax, eax; cpuid
  ...[0x01, 0xc6, 0x01, 0xde], // add esi, eax; add esi, ebx
  ...[0xb9, 0x76, 0x01, 0, 0, 0x0f, 0x32], // mov ecx, 176h; rdmsr
  ...[0x01, 0xc6], // add esi, eax
  ...[0xe4, 0x80, 0x01, 0xc6], // in al, 80h; add esi, eax
  ...[0x03, 0x35, 0, 0, 0x30, 0], // add esi, [300000h]
  ...[0xeb, 0xdb], // jmp l
];

function curious(jit: number, devices: "none" | "pc" = "none"): Machine {
  const machine = new Machine({ memory: 4 << 20, extraMemory: 0, jit, devices });
  loadImage(machine, parseFlat(Uint8Array.from(CURIOUS), { mode: "protected" }));
  machine.writeMsr(0x176, 0x1234);
  machine.writeMemory(0x300000, Uint8Array.of(9, 9, 9, 9));
  machine.run({ maxInstructions: 500 });
  return machine;
}

function futureOf(machine: Machine) {
  const exits = [];
  for (const maxInstructions of [1, 7, 1000, 3000]) exits.push(machine.run({ maxInstructions }));
  const { digest } = machine.snapshot();
  return { exits, digest, registers: machine.registers.read(), msrs: machine.msrs.read(), regions: machine.regions };
}

const nothing = () => undefined;

/** What a fork did before it was disposed of. */
const LIVES: Record<string, (machine: Machine, log: () => void) => void> = {
  "nothing at all": nothing,
  "ran on": (machine) => void machine.run({ maxInstructions: 10_000 }),
  "changed every register": (machine) => {
    const all = machine.registers.read();
    for (const name of ["rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"] as const) machine.registers[name] = 77n;
    machine.registers.write({ rflags: all.rflags ^ 0x8d5n, cr2: 0x123n, dr0: 0x10_0000n, dr7: 0x402n, rip: 0x5555 });
    machine.registers.write({ ds: { base: 0x1000n }, cs: { selector: 0x50 } });
  },
  "went to long mode": (machine) =>
    loadImage(machine, parseFlat(Uint8Array.of(0x48, 0xff, 0xc0, 0xeb, 0xfb), { mode: "long" })),
  "wrote MSRs": (machine) => {
    machine.writeMsr(0x176, 0xdead);
    machine.writeMsr(0x10, 0n);
    machine.writeMsr(0x140, 1n);
  },
  "filled its memory": (machine) => machine.writeMemory(0, new Uint8Array(4 << 20).fill(0xcc)),
  "ran other code in the same place until it was generated": (machine) => {
    // inc dword [200000h]; jmp l, and before it what the guest's first block was
    machine.run({ maxInstructions: 5000 });
    machine.writeMemory(0x100000, Uint8Array.of(0xff, 0x05, 4, 0, 0x20, 0, 0xeb, 0xf8));
    machine.registers.rip = 0x100000n;
    machine.run({ maxInstructions: 20_000 });
  },
  "had hooks on everything": (machine, log) => {
    machine.onPortIn([0, 0xffff], () => {
      log();
      return 0x5a;
    });
    machine.onPortOut([0, 0xffff], log);
    machine.onCpuid(() => {
      log();
      return { eax: 1, ebx: 2, ecx: 3, edx: 4 };
    });
    machine.onRdmsr(() => {
      log();
      return 0x99n;
    });
    machine.onCode({ address: 0x100000, size: 64 }, log);
    machine.onBlock({ address: 0x100000, size: 64 }, log);
    machine.onRead({ address: 0x300000, size: 4 }, () => {
      log();
      return Uint8Array.of(1, 1, 1, 1);
    });
    machine.onWrite({ address: 0x200000, size: 4 }, () => {
      log();
      return false;
    });
    machine.onEvent([0, 255], () => {
      log();
      return true;
    });
    machine.run({ maxInstructions: 3000 });
  },
  "stood at a breakpoint, with watchpoints": (machine) => {
    machine.addWatchpoint(0x200000, { size: 4, access: "write" });
    machine.run({ maxInstructions: 100 });
    machine.addBreakpoint(machine.registers.rip);
    machine.addBreakpoint(0x100006);
    expect(machine.run().reason).toBe("breakpoint");
  },
  "was to stop at an address": (machine) =>
    expect(machine.run({ until: 0x100006, maxInstructions: 1000 }).reason).not.toBe("slice"),
  "had windows over memory that is not RAM, and no right to write": (machine, log) => {
    machine.map({
      kind: "mmio",
      address: 0x4000_0000,
      size: 4096,
      read: () => {
        log();
        return 0;
      },
    });
    machine.protect(0x200000, 4096, { read: true, execute: true });
    machine.onMmio({ address: 0x300000, size: 4096 }, { read: () => 1 });
    expect(machine.run({ maxInstructions: 100 }).reason).toBe("denied");
  },
  "had an interrupt and an NMI pending": (machine) => {
    if (!machine.devices) machine.interrupt(0x33);
    machine.nmi();
  },
  "shut down": (machine) => {
    machine.nmi();
    expect(machine.run({ maxInstructions: 1000 }).reason).toBe("shutdown");
  },
  "ended in a callback that threw": (machine) => {
    machine.onPortIn(0x80, () => {
      throw new Error("enough");
    });
    expect(() => machine.run()).toThrow("enough");
  },
  "was recording, in the past": (machine) => {
    machine.record();
    machine.run({ maxInstructions: 1000 });
    machine.rewind(500);
  },
  "was in VMX operation": (machine) => {
    const { rip } = machine.registers;
    // VMXON needs a model with VMX; this one refuses, which leaves #UD and a shutdown
    machine.writeMemory(rip, Uint8Array.of(0x0f, 0x01, 0xc1));
    machine.run({ maxInstructions: 10 });
  },
};

describe.each([
  [1, "none"],
  [500, "none"],
  [0, "none"],
  [1, "pc"],
] as const)("after a fork, jit %i, devices %s,", (jit, devices) => {
  it.each(Object.entries(LIVES))("that %s", (_name, live) => {
    const origin = curious(jit, devices);
    const expected = futureOf(Machine.from(origin.snapshot(), { jit, devices }));
    let calls = 0;
    const first = origin.fork();
    live(first, () => void calls++);
    const before = { memories, calls };
    first.dispose();
    const fork = origin.fork();
    expect(fork.jitStatistics).toEqual({ modules: 0, functions: 0, bytes: 0, milliseconds: 0 });
    expect(futureOf(fork)).toEqual(expected);
    expect({ memories, calls }).toEqual(before);
    // and once more, after it
    fork.dispose();
    expect(futureOf(origin.fork())).toEqual(expected);
    expect({ memories, calls }).toEqual(before);
    expect(origin.instructionCount).toBe(500n);
  });
});

const folder = new URL("../../fixtures/guests/", import.meta.url);
const guests = GUESTS.filter(({ name }) => name !== "rep-forever");

describe.each([0, 1])("a fork in the middle of a guest, jit %i, after a fork that ran another one", (jit) => {
  it.each(guests.map((guest) => [guest.name, guest] as const))("%s", (name, guest) => {
    const { machine: origin } = loadGuest(guest, jit);
    origin.run({ maxInstructions: generator(name.length * 17 + jit)(20_000) });
    const wired = (console: number[]) => (machine: Machine) => {
      machine.onPortOut(0xe9, (_port, value) => void console.push(value & 0xff));
      machine.onPortOut(0xf4, () => machine.stop());
    };
    const endOf = (make: (setup: (machine: Machine) => void) => Machine) => {
      const console: number[] = [];
      const machine = make(wired(console));
      const exit = machine.run({ maxInstructions: LIMIT });
      return { machine, end: { exit, console, digest: machine.snapshot().digest, at: machine.registers.read() } };
    };
    const { end } = endOf((setup) => Machine.from(origin.snapshot(), { jit, setup }));

    const used = origin.fork({ setup: wired([]) });
    const other = guests[(guests.indexOf(guest) + 1) % guests.length]!;
    const { file, mode, load, entry } = other;
    const image = parseImage(new Uint8Array(readFileSync(new URL(file, folder))), {
      mode,
      ...(load === undefined ? {} : { load }),
      ...(entry === undefined ? {} : { entry }),
    });
    loadImage(used, image);
    used.run({ maxInstructions: 20_000 });
    used.dispose();
    const made = memories;
    const second = endOf((setup) => origin.fork({ setup }));
    expect(second.end).toEqual(end);
    second.machine.dispose();
    expect(endOf((setup) => origin.fork({ setup })).end).toEqual(end);
    expect(memories).toBe(made);
  });
});

describe("a fork that was disposed of", () => {
  it("cannot reach the next one", () => {
    const origin = curious(1, "pc");
    const old = origin.fork();
    const { registers, msrs, devices } = old;
    old.dispose();
    const made = memories;
    const fork = origin.fork();
    const expected = fork.snapshot().digest;
    let calls = 0;
    for (const attempt of [
      () => registers.rax,
      () => {
        registers.rax = 1n;
      },
      () => msrs.read(),
      () => old.writeMemory(0, Uint8Array.of(1)),
      () => old.run(),
      () => old.onPortIn([0, 0xffff], () => calls++),
      () => old.onCode({ address: 0x100000, size: 64 }, () => void calls++),
      () => old.addBreakpoint(0x100006),
      () => old.jitStatistics,
      () => devices!.setIrq(1, true),
      () => old.fork(),
    ]) {
      try {
        attempt();
      } catch (error) {
        expect(error).toBeInstanceOf(StateError);
      }
    }
    expect(fork.snapshot().digest).toBe(expected);
    fork.run({ maxInstructions: 1000 });
    expect(calls).toBe(0);
    expect(memories).toBe(made);
  });

  it("leaves nothing to machines with other options", () => {
    const origin = curious(1);
    for (const options of [{ jit: false }, { jit: 5 }, { extraMemory: 4096 }] as const) {
      origin.fork().dispose();
      const made = memories;
      origin.fork(options).dispose();
      expect(memories).toBe(made + 1);
    }
  });

  it("leaves nothing to machines with another memory map", () => {
    const origin = machineWith("protected", 0xf4);
    origin.fork().dispose();
    origin.map({ kind: "rom", address: 0x8000_0000, size: 4096, data: Uint8Array.of(1, 2, 3) });
    const made = memories;
    const fork = origin.fork();
    expect(memories).toBe(made + 1);
    expect(fork.readMemory(0x8000_0000, 3)).toEqual(Uint8Array.of(1, 2, 3));
    fork.dispose();
    expect(origin.fork().readMemory(0x8000_0000, 3)).toEqual(Uint8Array.of(1, 2, 3));
    expect(memories).toBe(made + 1);
  });

  it("that has unmapped RAM leaves nothing", () => {
    const origin = machineWith("protected", 0xf4);
    origin.map({ kind: "ram", address: 0x8000_0000, size: 8192 });
    const fork = origin.fork();
    fork.unmap(0x8000_0000);
    fork.dispose();
    const made = memories;
    expect(origin.fork().regions).toEqual(origin.regions);
    expect(memories).toBe(made + 1);
  });

  it("leaves its memory as it is to a fork of a later state", () => {
    const origin = curious(1);
    const old = origin.fork();
    old.run({ maxInstructions: 2000 });
    old.dispose();
    origin.run({ maxInstructions: 1234 });
    const expected = futureOf(Machine.from(origin.snapshot(), { jit: 1 }));
    const made = memories;
    expect(futureOf(origin.fork())).toEqual(expected);
    expect(memories).toBe(made);
  });
});
