import { vmxTarget } from "../../src/cli/gdbVmx.ts";
import { type GdbTarget, MachineTarget } from "../../src/gdb/index.ts";
import { loadImage, Machine, parseFlat } from "../../src/machine/index.ts";
import type { Scenario } from "./scenarios.ts";

/** The guest of a scenario as the command line makes it. */
export function targetOf(scenario: Scenario): GdbTarget {
  const { mode, load, code, vcpus } = scenario;
  if (vcpus === undefined) return bareTarget(scenario).target;
  const image = parseFlat(Uint8Array.from(code), { mode, load });
  return vmxTarget({ image, memory: 4 << 20, policy: undefined, vcpus, console: () => {}, record: true });
}

/** On the bare processor, with an exit port. */
export function bareTarget({ mode, load, code, cpu, memory = 4 }: Scenario): {
  target: MachineTarget;
  machine: Machine;
} {
  const machine = new Machine({ memory: memory << 20, extraMemory: 0, ...(cpu ? { cpu } : {}) });
  let status: number | undefined;
  machine.onPortOut(0xf4, (_port, value) => {
    status = value;
    machine.stop();
  });
  loadImage(machine, parseFlat(Uint8Array.from(code), { mode, load }));
  return { machine, target: new MachineTarget(machine, { status: () => status, record: true }) };
}
