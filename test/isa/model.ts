// A model with every feature that a condition needs.
import { allFeatures } from "../../scripts/oracle/kernel.ts";
import type { CpuModel } from "../../src/index.ts";

const PCID = 1 << 17;
const SMEP = 1 << 7;

const all = allFeatures({ vmx: true });
export const model: CpuModel = {
  ...all,
  cpuid: all.cpuid.map((row) => {
    if (row.leaf === 1) return { ...row, ecx: (row.ecx | PCID) >>> 0 };
    return row.leaf === 7 ? { ...row, ebx: (row.ebx | SMEP) >>> 0 } : row;
  }),
};
