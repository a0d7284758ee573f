// Guests that exercise the devices; expected/ holds what they print on QEMU's pc machine (fixtures/devices/record.sh), and
// Bochs prints the same for those of record-bochs.sh.
import { describe, expect, it } from "vitest";
import { bytesOf, expectedOf, runGuest } from "./run.ts";

const REAL = { start: { mode: "real", load: 0x7c00 } } as const;

describe.each([
  ["pic-pit", {}],
  ["rtc", {}],
  ["apic", {}],
  ["serial", {}],
  ["kernel", {}],
  ["real-io", REAL],
] as const)("guest %s", (name, start) => {
  const image = bytesOf(`${name}.bin`);

  it("prints what it prints on QEMU", () => {
    const { text, exit } = runGuest(image, start);
    expect(text).toBe(expectedOf(name));
    expect(exit).toMatchObject({ reason: "debugExit", value: 0 });
  });

  it("is the same machine without generated code, and in slices of any length", () => {
    const whole = runGuest(image, { jit: 1, ...start });
    for (const options of [{ jit: false }, { jit: 1, slice: 997 }, { jit: false, slice: 10_007 }]) {
      const other = runGuest(image, { ...options, ...start });
      expect(other.text).toBe(whole.text);
      expect(other.machine.instructionCount).toBe(whole.machine.instructionCount);
      expect(other.machine.tsc).toBe(whole.machine.tsc);
      expect(other.machine.registers.read()).toEqual(whole.machine.registers.read());
      expect(other.machine.devices!.save()).toEqual(whole.machine.devices!.save());
    }
  });
});
