import { expect, test } from "vitest";
import { traceCmdLine } from "../../src/trace/index.ts";

test("task, CPU and seconds come before the event", () => {
  const event = { name: "kvm_entry", vcpu: 0, rip: 0x1000n, intrInfo: 0, errorCode: 0 } as const;
  const text = traceCmdLine(event, { task: "vmm0", pid: 1001, cpu: 2, cycles: 1_234_567 }, "5.0");
  expect(text).toMatch(/^ +vmm0-1001 \[002\] +0\.001235: kvm_entry: +vcpu 0$/);
});
