// VMREAD and VMWRITE by the host without a call of the processor give what the processor gives.
import { beforeEach, expect, it } from "vitest";
import { RegionFlag } from "../../assembly/abi/layout.ts";
import { COMM_VALUE, VmxResult } from "../../assembly/abi/run.ts";
import { VMX_STATE, VmxBit } from "../../assembly/abi/state.ts";
import { fields } from "../../scripts/vmx-tables.ts";
import { Core, hostInit } from "../../src/core/index.ts";
import { applyModel, genericModel, skylakeModel } from "../../src/machine/models.ts";

const VMXON = 0x1000n;
const VMCS = 0x2000n;
const VALUE = 0x9234_5678_9abc_def1n;

let core: Core;
beforeEach(() => {
  core = new Core(8);
  applyModel(core, skylakeModel({ vmx: true }));
  core.exports.reset(0);
  core.mapRam(0n, 8, RegionFlag.Ram);
  expect(hostInit(core.exports, VMXON)).toBe(VmxResult.Succeed);
  core.writePhysical(VMCS, core.readPhysical(VMXON, 4));
  expect(core.exports.vmclear(VMCS)).toBe(VmxResult.Succeed);
  expect(core.exports.vmptrld(VMCS)).toBe(VmxResult.Succeed);
});

/** What the processor answers; undefined: VMREAD does not succeed. */
const byProcessor = (field: number): bigint | undefined =>
  core.exports.vmread(field) === VmxResult.Succeed ? core.read64(COMM_VALUE) : undefined;

function expectSame(field: number): void {
  // the second time the place is known
  for (let i = 0; i < 2; i++) {
    const value = byProcessor(field);
    const low = value === undefined ? undefined : Number(value & 0xffff_ffffn);
    const high = value === undefined ? undefined : Number(value >> 32n);
    expect([core.vmcs.read(field), core.vmcs.readLow(field), core.vmcs.readHigh(field)]).toEqual([value, low, high]);
  }
}

it("reads every field, and none that does not exist", () => {
  for (const { encoding, supported, readOnly } of fields()) {
    if (supported && !readOnly) core.exports.vmwrite(encoding, VALUE + BigInt(encoding));
  }
  for (let encoding = 0; encoding < 0x9000; encoding++) expectSame(encoding);
  for (const encoding of [-1, 0x10000, 0x1681e, 0x8000_0000]) expectSame(encoding);
});

it("writes every field to its width", () => {
  for (const { encoding, supported, readOnly } of fields()) {
    for (const [low, high] of [
      [0x9abc_def1, 0x9234_5678],
      [0xffff_ffff, 0xffff_ffff],
    ] as const) {
      const before = byProcessor(encoding);
      const result = core.exports.vmwriteHalves(encoding, low, high);
      const want = byProcessor(encoding);
      expect(result === VmxResult.Succeed).toBe(supported && !readOnly);
      if (before !== undefined) core.exports.vmwrite(encoding, before);
      expect(core.vmcs.write(encoding, low, high)).toBe(result);
      expect(byProcessor(encoding)).toBe(want);
      expectSame(encoding);
    }
  }
});

it("knows the XSS-exiting bitmap of processors that have XSAVES", () => {
  expectSame(0x202c);
  expect(core.vmcs.read(0x202c)).toBe(0n);
  applyModel(core, genericModel({ vmx: true }));
  expectSame(0x202c);
  expect(core.vmcs.read(0x202c)).toBeUndefined();
  expect(core.vmcs.peek(0x202c)).toBeUndefined();
  expect(core.vmcs.write(0x202c, 1, 0)).toBe(VmxResult.FailValid);
});

it("looks on without VMREAD's conditions", () => {
  for (const { encoding, supported } of fields()) {
    expect(core.vmcs.peek(encoding)).toBe(supported ? byProcessor(encoding) : undefined);
  }
  core.write32(VMX_STATE, core.read32(VMX_STATE) | VmxBit.NonRoot);
  expect(core.vmcs.peek(0x4402)).toBe(0n);
});

it.each([
  ["in non-root operation", () => core.write32(VMX_STATE, core.read32(VMX_STATE) | VmxBit.NonRoot)],
  ["outside VMX operation", () => core.exports.vmxoff()],
  ["without a current VMCS", () => core.exports.vmclear(VMCS)],
])("fails %s", (_, prepare) => {
  for (const field of [0x4402, 0x681e]) expectSame(field); // known from here on
  prepare();
  for (const field of [0x4402, 0x681e]) {
    expect(byProcessor(field)).toBe(undefined);
    expectSame(field);
    expect(core.vmcs.write(field, 1, 0)).toBe(core.exports.vmwriteHalves(field, 1, 0));
  }
});
