// Guests that are hypervisors, on the bare processor.
import { describe, expect, it } from "vitest";
import { DebugConsole, DebugExit, PortBus } from "../../src/devices/index.ts";
import { genericModel, loadImage, Machine } from "../../src/machine/index.ts";
import { expectedConsole, fixture, imageOf } from "../lab/fixtures.ts";

function run(name: string, step?: number) {
  const machine = new Machine({ cpu: genericModel({ vmx: true }) });
  let text = "";
  let status = -1;
  const bus = new PortBus()
    .add(
      new DebugConsole((byte) => {
        text += String.fromCharCode(byte);
      }),
    )
    .add(
      new DebugExit((value) => {
        status = value;
        machine.stop();
      }),
    );
  machine.onPortIn([0, 0xffff], (port, size) => bus.read(port, size));
  machine.onPortOut([0, 0xffff], (port, value, size) => bus.write(port, value, size));
  loadImage(machine, imageOf(fixture(name)));
  while (machine.run({ maxInstructions: step ?? 10_000_000 }).reason === "instructions");
  return { text, status, instructions: machine.instructionCount };
}

describe.each(["hypervisor", "hypervisor-events", "hypervisor-memory", "hypervisor-exits", "hypervisor-edges"])(
  "%s",
  (name) => {
    it("prints what the SDM says", () => {
      const one = fixture(name);
      expect(run(name)).toMatchObject({ text: expectedConsole(one), status: one.expectedStatus });
    });

    it("runs alike in steps of one instruction", () => {
      expect(run(name, 1)).toEqual(run(name));
    });
  },
);
