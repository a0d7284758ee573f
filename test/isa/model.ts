// A model with every feature that a condition needs.
import { allFeatures } from "../../scripts/oracle/kernel.ts";
import type { CpuModel } from "../../src/index.ts";

const PCID = 1 << 17;
const SMEP = 1 << 7;
const [X87_STATE, HDC_STATE, EVERY_FORM] = [1, 0x2000, 0xf];

const all = allFeatures({ vmx: true });
export const model: CpuModel = {
  ...all,
  cpuid: [
    ...all.cpuid.map((row) => {
      if (row.leaf === 0) return { ...row, eax: 0xd };
      if (row.leaf === 1) return { ...row, ecx: (row.ecx | PCID) >>> 0 };
      return row.leaf === 7 ? { ...row, ebx: (row.ebx | SMEP) >>> 0 } : row;
    }),
    { leaf: 0xd, subleaf: 0, eax: X87_STATE, ebx: 576, ecx: 576, edx: 0 },
    { leaf: 0xd, subleaf: 1, eax: EVERY_FORM, ebx: 576, ecx: HDC_STATE, edx: 0 },
    { leaf: 0xd, subleaf: 13, eax: 8, ebx: 0, ecx: 1, edx: 0 },
  ],
};
