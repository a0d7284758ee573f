// Every row of vmcs-fields.csv. SDM 3C "VMREAD", "VMWRITE", appendix B.
import { beforeEach, describe, expect, it } from "vitest";
import { COMM_VALUE, VmxResult } from "../../assembly/abi/run.ts";
import { type Field, fields } from "../../scripts/vmx-tables.ts";
import { Vmx } from "./harness.ts";

const UNSUPPORTED = { result: VmxResult.FailValid, error: 12 };
const READ_ONLY = { result: VmxResult.FailValid, error: 13 };
const PATTERN = 0xa5c3_9617_1e2d_4b8fn;

const vmx = new Vmx();
beforeEach(() => {
  vmx.restart();
  vmx.select();
});

const vmread = (encoding: number) => {
  const result = vmx.core.vmread(encoding);
  return result === VmxResult.Succeed ? BigInt.asUintN(64, vmx.read64(COMM_VALUE)) : vmx.outcome(result);
};
const vmwrite = (encoding: number, value: bigint) => vmx.outcome(vmx.core.vmwrite(encoding, value));
const bitsOf = (f: Field) => (f.width === 0 ? 64 : f.width);

const all = fields().map((f) => ({ ...f, title: `${f.encoding.toString(16)} ${f.name}` }));
const offered = all.filter((f) => f.supported);

describe("offered fields", () => {
  it("there are as many as the table says", () => {
    expect(all.length).toBe(206);
    expect(offered.length).toBeGreaterThan(120);
  });

  it.each(offered.filter((f) => !f.readOnly))("$title keeps what is written, to its width", (f) => {
    expect(vmwrite(f.encoding, PATTERN)).toEqual({ result: VmxResult.Succeed });
    expect(vmread(f.encoding)).toBe(BigInt.asUintN(bitsOf(f), PATTERN));
  });

  it("each field has storage of its own", () => {
    const writable = offered.filter((f) => !f.readOnly);
    writable.forEach((f, i) => void vmwrite(f.encoding, BigInt(i + 1)));
    expect(writable.map((f) => vmread(f.encoding))).toEqual(writable.map((_, i) => BigInt(i + 1)));
  });

  it.each(offered.filter((f) => f.readOnly))("$title refuses VMWRITE", (f) => {
    expect(vmwrite(f.encoding, 1n)).toEqual(READ_ONLY);
    expect(typeof vmread(f.encoding)).toBe("bigint");
  });

  it.each(offered.filter((f) => f.width === 64 && !f.readOnly))("$title has a high half", (f) => {
    vmwrite(f.encoding, PATTERN);
    expect(vmread(f.encoding + 1)).toBe(PATTERN >> 32n);
    expect(vmwrite(f.encoding + 1, 0x1_7766_5544n)).toEqual({ result: VmxResult.Succeed });
    expect(vmread(f.encoding)).toBe((0x7766_5544n << 32n) | (PATTERN & 0xffffffffn));
  });

  it.each(offered.filter((f) => f.width !== 64))("$title has no high half", (f) => {
    expect(vmread(f.encoding + 1)).toEqual(UNSUPPORTED);
    expect(vmwrite(f.encoding + 1, 0n)).toEqual(UNSUPPORTED);
  });
});

describe("fields of controls that are not advertised", () => {
  it.each(all.filter((f) => !f.supported))("$title does not exist", (f) => {
    expect(f.existsIf).not.toBe("");
    expect(vmread(f.encoding)).toEqual(UNSUPPORTED);
    expect(vmwrite(f.encoding, 0n)).toEqual(UNSUPPORTED);
  });
});

describe("encodings that name no field", () => {
  it.each([0x1000, 0x8000, 0x681e + 0x1000, 0x0200, 0x6ffe, 0x10000, 0x80000000])("%i", (encoding) => {
    expect(vmread(encoding)).toEqual(UNSUPPORTED);
  });

  it("no encoding below 8000H succeeds unless the table has it", () => {
    const known = new Set(offered.flatMap((f) => (f.width === 64 ? [f.encoding, f.encoding + 1] : [f.encoding])));
    for (let encoding = 0; encoding < 0x8000; encoding++) {
      expect(vmx.core.vmread(encoding) === VmxResult.Succeed, encoding.toString(16)).toBe(known.has(encoding));
    }
  });
});

describe("without a current VMCS", () => {
  it("VMREAD and VMWRITE fail invalid", () => {
    vmx.core.vmclear(vmx.vmcs);
    expect(vmread(0x681e)).toEqual({ result: VmxResult.FailInvalid });
    expect(vmwrite(0x681e, 0n)).toEqual({ result: VmxResult.FailInvalid });
  });
});
