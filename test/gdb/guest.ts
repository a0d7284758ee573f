import { MachineTarget } from "../../src/gdb/index.ts";
import { loadImage, Machine, parseFlat } from "../../src/machine/index.ts";
import type { Scenario } from "./scenarios.ts";

/** The guest of a scenario as the command line makes it, with an exit port. */
export function targetOf({ mode, load, code, cpu }: Scenario): { target: MachineTarget; machine: Machine } {
  const machine = new Machine({ memory: 4 << 20, extraMemory: 0, ...(cpu ? { cpu } : {}) });
  let status: number | undefined;
  machine.onPortOut(0xf4, (_port, value) => {
    status = value;
    machine.stop();
  });
  loadImage(machine, parseFlat(Uint8Array.from(code), { mode, load }));
  return { machine, target: new MachineTarget(machine, { status: () => status }) };
}
