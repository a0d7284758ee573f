// A model with every feature that a condition needs.
import { allFeatures } from "../../scripts/oracle/kernel.ts";
import type { CpuModel } from "../../src/index.ts";

const PCID = 1 << 17;
const SMEP = 1 << 7;
/** x87, SSE and AVX state. */
const XCR0_BITS = 7;

const all = allFeatures({ vmx: true });
export const model: CpuModel = {
  ...all,
  cpuid: [
    ...all.cpuid.map((row) => {
      if (row.leaf === 0) return { ...row, eax: 0xd };
      if (row.leaf === 1) return { ...row, ecx: (row.ecx | PCID) >>> 0 };
      return row.leaf === 7 ? { ...row, ebx: (row.ebx | SMEP) >>> 0 } : row;
    }),
    { leaf: 0xd, subleaf: 0, eax: XCR0_BITS, ebx: 0x340, ecx: 0x340, edx: 0 },
  ],
};
