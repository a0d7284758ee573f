// SDM 3D appendix A. Default settings are those of A.3-A.5.
import { describe, expect, it } from "vitest";
import { RegionFlag } from "../../assembly/abi/layout.ts";
import { COMM_VALUE, VmxResult } from "../../assembly/abi/run.ts";
import { PHYSICAL_WIDTH } from "../../assembly/abi/width.ts";
import { advertised } from "../../scripts/vmx-features.ts";
import { fields, table } from "../../scripts/vmx-tables.ts";
import { Core, hostInit } from "../../src/core/index.ts";
import { type CpuModel, genericModel, Machine, nehalemModel, skylakeModel } from "../../src/index.ts";
import { applyModel } from "../../src/machine/models.ts";
import { Vmx } from "./harness.ts";

const vmx = new Vmx();
const msr = (index: number) => {
  const value = vmx.msr(index);
  if (value === "#GP") throw new Error(`#GP for MSR ${index.toString(16)}`);
  return value;
};
const low = (value: bigint) => value & 0xffffffffn;
const high = (value: bigint) => value >> 32n;

const groups = [
  { control: "pin-based", msr: 0x481, trueMsr: 0x48d, default1: 0x16n },
  { control: "primary-proc-based", msr: 0x482, trueMsr: 0x48e, default1: 0x0401e172n },
  { control: "primary-exit", msr: 0x483, trueMsr: 0x48f, default1: 0x00036dffn },
  { control: "entry", msr: 0x484, trueMsr: 0x490, default1: 0x000011ffn },
];

function allowedBits(control: string, default1: bigint): bigint {
  let mask = default1;
  for (const row of table("control-bits")) {
    if (row.control === control && advertised[control]!.includes(row.name!)) mask |= 1n << BigInt(row.bit!);
  }
  return mask;
}

describe("capability MSRs", () => {
  it.each(groups)("$control: default1 bits and advertised controls", ({ control, msr: index, trueMsr, default1 }) => {
    expect(low(msr(index))).toBe(default1);
    expect(high(msr(index))).toBe(allowedBits(control, default1));
    expect(high(msr(trueMsr))).toBe(high(msr(index)));
    expect(low(msr(trueMsr)) & ~default1).toBe(0n);
  });

  it("TRUE MSRs free CR3-load and CR3-store exiting and the debug controls", () => {
    expect(low(msr(0x48e))).toBe(0x0401e172n & ~0x18000n);
    expect(low(msr(0x48f))).toBe(0x00036dffn & ~4n);
    expect(low(msr(0x490))).toBe(0x000011ffn & ~4n);
  });

  it("secondary controls have no default1 bit", () => {
    expect(low(msr(0x48b))).toBe(0n);
    expect(high(msr(0x48b))).toBe(allowedBits("secondary-proc-based", 0n));
  });

  it("VMX_BASIC: 4 KiB write-back region, INS/OUTS information, TRUE controls", () => {
    const basic = msr(0x480);
    expect((basic >> 32n) & 0x1fffn).toBe(4096n);
    expect((basic >> 48n) & 3n).toBe(0n);
    expect((basic >> 50n) & 15n).toBe(6n);
    expect((basic >> 54n) & 3n).toBe(3n);
    expect((basic >> 31n) & 1n).toBe(0n);
  });

  it("VMX_MISC: EFER.LMA saved, HLT and shutdown, four CR3 targets", () => {
    const misc = msr(0x485);
    expect(misc & 0x1e0n).toBe(0xe0n);
    expect((misc >> 16n) & 0x1ffn).toBe(4n);
    expect((misc >> 25n) & 7n).toBe(0n);
  });

  it("CR0 and CR4 fixed bits", () => {
    expect(msr(0x486)).toBe(0x80000021n);
    expect(msr(0x487)).toBe(0xffffffffn);
    expect(msr(0x488)).toBe(0x2000n);
    expect(msr(0x489) & 0x2020n).toBe(0x2020n);
  });

  it("VMCS_ENUM is the highest index of an offered field", () => {
    const highest = Math.max(
      ...fields()
        .filter((f) => f.supported)
        .map((f) => (f.encoding >> 1) & 0x1ff),
    );
    expect((msr(0x48a) >> 1n) & 0x1ffn).toBe(BigInt(highest));
  });

  it("EPT and VPID: 4 levels, large pages, all invalidation types, accessed and dirty flags", () => {
    expect(msr(0x48c)).toBe(
      [0, 6, 8, 14, 16, 17, 20, 21, 25, 26, 32, 40, 41, 42, 43].reduce((all, bit) => all | (1n << BigInt(bit)), 0n),
    );
  });

  it("VM functions: EPTP switching", () => {
    expect(msr(0x491)).toBe(allowedBits("vm-function", 0n));
    expect(msr(0x491)).toBe(1n);
  });

  it("secondary controls of instructions that the model does not have may not be 1", () => {
    const allowed = (cpu: CpuModel) => new Machine({ cpu }).readMsr(0x48b)! >> 32n;
    const bits = (...numbers: number[]) => numbers.reduce((all, bit) => all | (1n << BigInt(bit)), 0n);
    const controls = bits(3, 11, 12, 16, 20); // RDTSCP, RDRAND, INVPCID, RDSEED, XSAVES
    expect(allowed(skylakeModel({ vmx: true })) & controls).toBe(controls);
    expect(allowed(nehalemModel({ vmx: true })) & controls).toBe(bits(3, 12));
  });

  // SDM 3C "VM-Execution Control Fields": the field is there where the control may be 1
  it.each([
    ["skylake", skylakeModel({ vmx: true }), true],
    ["generic", genericModel({ vmx: true }), false],
    ["nehalem", nehalemModel({ vmx: true }), false],
  ])("XSAVES, %s: control, CR4.OSXSAVE, IA32_XSS and the exiting bitmap, or none", (_name, model, built) => {
    const machine = new Machine({ cpu: model });
    expect((machine.readMsr(0x48b)! >> 52n) & 1n).toBe(built ? 1n : 0n);
    expect((machine.readMsr(0x489)! >> 18n) & 1n).toBe(built ? 1n : 0n);
    expect(machine.readMsr(0xda0)).toBe(built ? 0n : undefined);
    const core = new Core(8);
    applyModel(core, model);
    core.exports.reset(0);
    core.mapRam(0n, 8, RegionFlag.Ram);
    hostInit(core.exports, 0x1000n);
    core.writePhysical(0x2000n, core.readPhysical(0x1000n, 4));
    core.exports.vmclear(0x2000n);
    core.exports.vmptrld(0x2000n);
    for (const encoding of [0x202c, 0x202d]) {
      const want = built ? VmxResult.Succeed : VmxResult.FailValid;
      expect([core.exports.vmread(encoding), core.exports.vmwrite(encoding, 1n)]).toEqual([want, want]);
      if (built) continue;
      core.exports.vmread(0x4400);
      expect(core.read64(COMM_VALUE)).toBe(12n);
    }
  });

  it.each([0x492, 0x493])("MSR %i does not exist", (index) => {
    expect(vmx.msr(index)).toBe("#GP");
  });

  it("the physical width is one that CPUID can report", () => {
    expect(PHYSICAL_WIDTH).toBeGreaterThanOrEqual(36);
    expect(PHYSICAL_WIDTH).toBeLessThanOrEqual(52);
  });
});
