import { readFileSync } from "node:fs";
import { expect, it } from "vitest";
import { EXIT_CASES, timeExits } from "../../src/bench/exits.ts";
import { timeGuestExits } from "../../src/bench/guestExits.ts";

const names = EXIT_CASES.map(({ name }) => name);

it("VM exits are timed through a TypeScript hypervisor", () => {
  const timings = timeExits(20, 1);
  expect(timings.map(({ name }) => name)).toEqual(names);
  for (const { exitsPerSecond } of timings) expect(exitsPerSecond).toBeGreaterThan(0);
});

it("VM exits are timed in a guest hypervisor, which counts them", () => {
  const image = readFileSync(new URL("../../fixtures/guests/bin/hypervisor-exits.bin", import.meta.url));
  expect(timeGuestExits(image, 50).map(({ name }) => name)).toEqual(names);
  image.fill(0xcc, 0x20, 0x2000);
  expect(() => timeGuestExits(image, 50)).toThrow(/the guest hypervisor ended with status/);
});
