// A kernel in C that tests VMX by itself, on a machine with devices: fixtures/guests/src/vmxtest. What it expects is the
// SDM's; here only that nothing fails and that no group is left out.
import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { genericModel, skylakeModel } from "../../src/index.ts";
import { runGuest } from "../devices/run.ts";

const kernel = readFileSync(new URL("../../fixtures/guests/bin/vmxtest.elf", import.meta.url));
const environment = new TextEncoder().encode("NR_CPUS=1\nMEMSIZE=32\n");
const GROUPS = [
  "environment",
  "VMXON",
  "VMCS pointers, INVEPT, INVVPID",
  "capability MSRs",
  "fields",
  "checks of VM entry",
  "exits",
  "events",
  "interrupts of the machine",
  "MSR areas",
  "EPT",
];

it.each([
  ["generic", genericModel({ vmx: true, apic: true }), {}],
  ["Skylake-like", skylakeModel({ vmx: true, apic: true }), {}],
  ["generic, interpreter only, in small slices", genericModel({ vmx: true, apic: true }), { jit: false, slice: 997 }],
] as const)("nothing fails: %s", (_name, cpu, options) => {
  const { text, exit } = runGuest(kernel, {
    ...options,
    cpu,
    memory: 32 << 20,
    boot: { commandLine: "vmxtest", modules: [{ data: environment }] },
  });
  const lines = text.trimEnd().split("\n");
  expect(lines.filter((line) => line.startsWith("FAIL"))).toEqual([]);
  expect(lines.slice(1, -1).map((line) => line.split(": ")[0])).toEqual(GROUPS);
  expect(lines.at(-1)).toBe("0 failed");
  expect(exit).toMatchObject({ reason: "debugExit", value: 0 });
});
