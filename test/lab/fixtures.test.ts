// Every guest under VMX: the console of its oracle, and the instruction count of the bare processor.
import { describe, expect, test } from "vitest";
import { DebugConsole, DebugExit, PortBus, Serial } from "../../src/devices/index.ts";
import { runGuestUnderVmx, runGuestUnderVmxAsync } from "../../src/lab/index.ts";
import { loadImage, Machine } from "../../src/machine/index.ts";
import { expectedConsole, FIXTURES, type Fixture, fixture, imageOf } from "./fixtures.ts";

const KERNELS = ["5.0", "6.19", "7.1"];
const MEMORY = 16 << 20;

function underVmx(one: Fixture, kernel: string, policy = "host-nonzero") {
  let text = "";
  const run = runGuestUnderVmx({
    image: imageOf(one),
    memory: MEMORY,
    kernel,
    policy,
    console: (byte) => {
      text += String.fromCharCode(byte);
    },
  });
  return { run, text };
}

function bareCount(one: Fixture): number {
  const machine = new Machine({ memory: MEMORY });
  const bus = new PortBus()
    .add(new DebugConsole(() => {}))
    .add(new Serial(() => {}))
    .add(new DebugExit(() => machine.stop()));
  machine.onPortIn([0, 0xffff], (port, size) => bus.read(port, size));
  machine.onPortOut([0, 0xffff], (port, value, size) => bus.write(port, value, size));
  loadImage(machine, imageOf(one));
  const exit = machine.run({ maxInstructions: 1_000_000_000 });
  expect(exit.reason).toBe("stopped");
  return exit.instructions;
}

const ending = FIXTURES.filter((one) => one.ends === "exit");

describe("guests under VMX", () => {
  for (const one of ending) {
    for (const kernel of one.name.startsWith("isa-") ? [] : KERNELS) {
      test(`${one.name}, kernel ${kernel}`, () => {
        const { run, text } = underVmx(one, kernel);
        expect(text).toBe(expectedConsole(one));
        expect(run.ending).toEqual({ kind: "exit", status: one.expectedStatus });
      });
    }

    test(`${one.name}: as many instructions as on the bare processor`, () => {
      const { run, text } = underVmx(one, "5.0");
      const count = bareCount(one);
      expect(run.instructions).toBe(count);
      if (!one.name.startsWith("isa-")) expect(underVmx(one, "7.1").run.instructions).toBe(count);
      expect(text).toBe(expectedConsole(one));
    });
  }
});

describe("guests that never end", () => {
  for (const one of FIXTURES.filter(({ ends }) => ends === "never")) {
    const options = { image: imageOf(one), memory: MEMORY };
    if (one.name !== "rep-forever") {
      test(`${one.name} stops at the limit`, async () => {
        const { ending, instructions } = await runGuestUnderVmxAsync({ ...options, maxInstructions: 12_345 });
        expect([ending.kind, instructions]).toEqual(["limit", 12_345]);
      });
    }

    test(`${one.name} stops when aborted`, async () => {
      const controller = new AbortController();
      setTimeout(() => controller.abort(), 100);
      const { ending } = await runGuestUnderVmxAsync({ ...options, signal: controller.signal });
      expect(ending).toEqual({ kind: "interrupted" });
    });
  }
});

test("slices change nothing that is counted", async () => {
  const one = fixture("app-start");
  const sync = runGuestUnderVmx({ image: imageOf(one), memory: MEMORY, policy: "always-hardware" });
  const sliced = await runGuestUnderVmxAsync({ image: imageOf(one), memory: MEMORY, policy: "always-hardware" });
  expect(sliced.counts).toEqual(sync.counts);
  expect(sliced.exits).toEqual(sync.exits);
  expect(sliced.ledger.toJSON()).toEqual(sync.ledger.toJSON());
});

test("the exit kinds of app-start are those of its source", () => {
  // 5 CPUIDs fault, 2000 OUTs to port 80h and one a console byte and the exit
  const { run, text } = underVmx(fixture("app-start"), "5.0", "upstream");
  expect(run.exits).toMatchObject({ CPUID: 5, IO_INSTRUCTION: 2000 + text.length + 1, MSR_WRITE: 1 });
  expect(run.counts.injected_faults).toBe(5);
  expect(run.counts.hardware_faults).toBe(0);
  expect(run.counts.entering_loads).toBe(run.counts.io_exits);
});
