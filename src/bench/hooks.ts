// What a hook costs: the time of one call, and that code without one runs as fast with hooks elsewhere.
import { Machine } from "../machine/index.ts";

export interface HookCost {
  readonly name: string;
  /** Nanoseconds for one instruction (or access) with its hook. */
  readonly nanoseconds: number;
}

export interface HookReport {
  /** Millions of instructions a second of a loop without memory accesses, and of one with them, before any hook is set. */
  readonly free: { readonly alu: number; readonly memory: number };
  /** The same loops with every kind of hook set for other addresses, leaves and ports. */
  readonly elsewhere: { readonly alu: number; readonly memory: number };
  readonly costs: readonly HookCost[];
}

const AT = 0x100000;

function machineWith(code: readonly number[]): Machine {
  const machine = new Machine({ memory: 4 << 20, extraMemory: 1 << 20 });
  machine.writeMemory(AT, Uint8Array.from(code));
  const flat = { base: 0n, limit: 0xffff_ffff, attributes: 0xc093 };
  machine.registers.write({ cr0: 0x11, rip: AT, cs: { ...flat, attributes: 0xc09b }, ds: flat, es: flat, ss: flat });
  return machine;
}

/** Nanoseconds an instruction, the best of some runs. */
function time(machine: Machine, instructions: number, runs = 5): number {
  let best = Number.POSITIVE_INFINITY;
  machine.run({ maxInstructions: instructions, maxWork: 2 * instructions });
  for (let i = 0; i < runs; i++) {
    const start = performance.now();
    machine.run({ maxInstructions: instructions, maxWork: 2 * instructions });
    best = Math.min(best, performance.now() - start);
  }
  return (best * 1e6) / instructions;
}

// l: inc eax; add ebx, eax; xor ecx, ebx; jmp l
const ALU = [0x40, 0x01, 0xc3, 0x31, 0xd9, 0xeb, 0xf9];
// l: mov eax, [200000h]; inc eax; mov [200004h], eax; jmp l
const MEMORY = [0xa1, 0, 0, 0x20, 0, 0x40, 0xa3, 4, 0, 0x20, 0, 0xeb, 0xf3];
const loop = (...body: number[]) => [...body, 0xeb, 256 - body.length - 2];

function hookElsewhere(machine: Machine): void {
  machine.onCode({ address: 0x300000, size: 4096 }, () => {});
  machine.onBlock({ address: 0x301000, size: 4096 }, () => {});
  machine.onRead({ address: 0x302000, size: 4096 }, () => undefined);
  machine.onWrite({ address: 0x303000, size: 4096 }, () => undefined);
  machine.onCpuid(0x4000_0000, () => undefined);
  machine.onRdmsr(0x4000_0000, () => undefined);
  machine.onWrmsr(0x4000_0000, () => {});
  machine.onPortIn(0x80, () => undefined);
  machine.onRdtsc(() => undefined);
  machine.onEvent([0, 255], () => {});
  machine.onVmcall(() => {});
  machine.onVmExit(() => {});
  machine.onVmEntry(() => {});
  machine.onInvalidOpcode(() => undefined);
}

/** @param instructions of each timed run of a free loop; hooked ones take a fiftieth */
export function hookReport(instructions = 50_000_000): HookReport {
  const speed = (code: readonly number[], prepare: (machine: Machine) => void) => {
    const machine = machineWith(code);
    prepare(machine);
    return 1000 / time(machine, instructions);
  };
  const few = Math.ceil(instructions / 50);
  const cost = (name: string, code: readonly number[], share: number, prepare: (machine: Machine) => void) => {
    const machine = machineWith(code);
    prepare(machine);
    return { name, nanoseconds: time(machine, few, 3) * share };
  };
  const none = () => {};
  return {
    free: { alu: speed(ALU, none), memory: speed(MEMORY, none) },
    elsewhere: { alu: speed(ALU, hookElsewhere), memory: speed(MEMORY, hookElsewhere) },
    costs: [
      cost("onCode, every instruction", ALU, 1, (m) => m.onCode({ address: AT, size: 16 }, () => {})),
      cost("onBlock, a loop of 4", ALU, 4, (m) => m.onBlock({ address: AT, size: 16 }, () => {})),
      cost("onRead", loop(0xa1, 0, 0, 0x20, 0), 2, (m) => m.onRead({ address: 0x200000, size: 4 }, () => undefined)),
      cost("onWrite", loop(0xa3, 0, 0, 0x20, 0), 2, (m) => m.onWrite({ address: 0x200000, size: 4 }, () => undefined)),
      cost("onCpuid", loop(0x0f, 0xa2), 2, (m) => m.onCpuid(() => undefined)),
      cost("onRdtsc", loop(0x0f, 0x31), 2, (m) => m.onRdtsc(() => 1n)),
      cost("onPortOut", loop(0xe6, 0x80), 2, (m) => m.onPortOut(0x80, () => {})),
      cost("onVmcall", loop(0x0f, 0x01, 0xc1), 2, (m) => m.onVmcall(() => true)),
      cost("onInvalidOpcode", loop(0x0f, 0x0b), 2, (m) => m.onInvalidOpcode(() => 2)),
    ],
  };
}
