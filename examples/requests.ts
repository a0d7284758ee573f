// One short program for each of the requests that docs/guides/embedding.md answers.
import {
  loadImage,
  Machine,
  MemoryMapError,
  parseFlat,
  type StartMode,
  snapshotFromBytes,
  snapshotToBytes,
} from "wasm-vmx";
import { main as kvmVmm } from "./kvm-vmm.ts";
import { main as paravirtual } from "./paravirtual.ts";

const HLT = 0xf4;

function machineWith(mode: StartMode, ...code: number[]): Machine {
  const machine = new Machine({ memory: 4 << 20 });
  loadImage(machine, parseFlat(Uint8Array.from(code), { mode }));
  return machine;
}

/** 1: a breakpoint, a watchpoint, and back again. */
export function debug() {
  // inc eax; mov [200000h], eax; inc eax; hlt
  const machine = machineWith("protected", 0x40, 0xa3, 0, 0, 0x20, 0, 0x40, HLT);
  machine.record();
  machine.addBreakpoint(0x100001);
  const stop = machine.run();
  machine.addWatchpoint(0x200000, { size: 4 });
  const write = machine.run();
  machine.reverseStep();
  return { stop: stop.reason, write: write.reason === "watchpoint" && write.after, back: machine.registers.rip };
}

/** 2: a 64-bit register. */
export function longMode() {
  const machine = machineWith("long", 0x48, 0xc7, 0xc0, 0xff, 0xff, 0xff, 0xff, HLT); // mov rax, -1
  machine.run();
  return machine.registers.rax;
}

/** 3: the host answers CPUID and RDTSC. */
export function instructionHooks() {
  const machine = machineWith("protected", 0x0f, 0xa2, 0x89, 0xc6, 0x0f, 0x31, HLT); // cpuid; mov esi, eax; rdtsc
  machine.registers.rax = 0x4000_0000;
  machine.onCpuid(0x4000_0000, () => ({ eax: 7 }));
  machine.onRdtsc(() => 42n);
  machine.run();
  return { eax: machine.registers.rsi, tsc: machine.registers.rax, ...paravirtual() };
}

/** 4: reads, writes and blocks of a range. */
export function rangeHooks() {
  // mov eax, [200000h]; mov [200004h], eax; hlt
  const machine = machineWith("protected", 0xa1, 0, 0, 0x20, 0, 0xa3, 4, 0, 0x20, 0, HLT);
  const log: string[] = [];
  machine.onBlock({ address: 0x100000, size: 4096 }, (address) => void log.push(`block ${address.toString(16)}`));
  const remove = machine.onRead({ address: 0x200000, size: 4 }, ({ size }) => {
    log.push(`read ${size}`);
    return 5;
  });
  machine.onWrite({ address: 0x200004, size: 4 }, ({ value }) => void log.push(`write ${value}`));
  machine.run();
  remove();
  return log;
}

/** 6: RAM, ROM, a device window, permissions. */
export function bareProcessor() {
  // mov eax, [500000h]; mov [600000h], al
  const machine = machineWith("protected", 0xa1, 0, 0, 0x50, 0, 0xa2, 0, 0, 0x60, 0, HLT);
  machine.map({ kind: "mmio", address: 0x500000, size: 4096, read: () => 0x1234 });
  machine.map({ kind: "ram", address: 0x600000, size: 4096, permissions: { read: true } });
  const exit = machine.run();
  return { eax: machine.registers.rax, exit: exit.reason };
}

/** 7: exactly a million instructions. */
export function exactCount() {
  const machine = machineWith("protected", 0x40, 0xeb, 0xfd); // l: inc eax; jmp l
  machine.run({ maxInstructions: 1_000_001 });
  return { count: machine.instructionCount, rip: machine.registers.rip };
}

/** 8: what an error knows. */
export function errors() {
  try {
    machineWith("real", HLT).readMemory(0x8000_0000, 4);
  } catch (error) {
    if (error instanceof MemoryMapError) return { address: error.address, size: error.size };
  }
  throw new Error("no error came");
}

/** 9: many runs from one snapshot, and a snapshot as bytes. */
export function search() {
  // mov eax, [200000h]; imul eax, eax; cmp eax, 1764; jne $+3; inc ebx; hlt
  const code = [0xa1, 0, 0, 0x20, 0, 0x0f, 0xaf, 0xc0, 0x3d, 0xe4, 0x06, 0, 0, 0x75, 0x01, 0x43, HLT];
  const machine = machineWith("protected", ...code);
  const start = snapshotFromBytes(snapshotToBytes(machine.snapshot()));
  for (let input = 0; input < 100; input++) {
    machine.restore(start);
    machine.writeMemory(0x200000, Uint8Array.of(input));
    machine.run();
    if (machine.registers.rbx === 1n) return input;
  }
  return undefined;
}

/** 10: CPUID faulting. */
export function cpuidFaulting() {
  const machine = machineWith("real", HLT);
  return {
    exists: (machine.readMsr(0xce)! >> 31n) & 1n,
    set: machine.writeMsr(0x140, 1),
    other: machine.writeMsr(0x140, 2),
  };
}

/** 11: the host decides about an MSR. */
export function msrByHost() {
  const machine = machineWith("protected", 0x0f, 0x32, HLT); // rdmsr
  machine.registers.rcx = 0x4b56_4d00;
  machine.onRdmsr(0x4b56_4d00, () => 0x1_0000_0002n);
  machine.run();
  return [machine.registers.rdx, machine.registers.rax];
}

/** 12: a KVM client. */
export function kvmClient() {
  return kvmVmm().at(-1);
}

/** 13: a few bytes of code, up to their end. */
export function plainBinary() {
  const code = Uint8Array.of(0xb8, 2, 0, 0, 0, 0x83, 0xc0, 0x03); // mov eax, 2; add eax, 3
  const machine = machineWith("protected", ...code);
  const exit = machine.run({ until: 0x100000 + code.length });
  return { exit: exit.reason, eax: machine.registers.rax };
}
