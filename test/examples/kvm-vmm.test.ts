import { expect, test } from "vitest";
import { main } from "../../examples/kvm-vmm.ts";

test("the VMM example prints 6, meets its device and halts", () => {
  expect(main()).toEqual([
    "I/O out 0x3f8: 54",
    "I/O in 0x3f8: 32",
    "MMIO write 0x8000: 0",
    "MMIO read 0x8000: 66",
    "halted; dirty pages 10, dl = 0x42",
  ]);
});
