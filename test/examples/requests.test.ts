import { expect, test } from "vitest";
import * as requests from "../../examples/requests.ts";

test("1: a breakpoint, a watchpoint, and back", () => {
  expect(requests.debug()).toEqual({ stop: "breakpoint", write: 1n, back: 0x100001n });
});
test("2: 64-bit code", () => expect(requests.longMode()).toBe(0xffff_ffff_ffff_ffffn));
test("3: hooks that answer", () => {
  expect(requests.instructionHooks()).toEqual({ eax: 7n, tsc: 42n, signature: "Wasm", sum: 42n });
});
test("4: hooks on ranges", () => expect(requests.rangeHooks()).toEqual(["block 100000", "read 4", "write 5"]));
test("6: a bare processor", () => expect(requests.bareProcessor()).toEqual({ eax: 0x1234n, exit: "denied" }));
test("7: exact counts", () => expect(requests.exactCount()).toEqual({ count: 1_000_001n, rip: 0x100001n }));
test("8: errors with data", () => expect(requests.errors()).toEqual({ address: 0x8000_0000n, size: 4 }));
test("9: a search over snapshots", () => expect(requests.search()).toBe(42));
test("10: CPUID faulting", () => expect(requests.cpuidFaulting()).toEqual({ exists: 1n, set: true, other: false }));
test("11: MSRs by the host", () => expect(requests.msrByHost()).toEqual([1n, 2n]));
test("12: a KVM client", () => expect(requests.kvmClient()).toContain("halted"));
test("13: a plain binary", () => expect(requests.plainBinary()).toEqual({ exit: "until", eax: 5n }));
