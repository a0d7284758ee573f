import { COMM_VALUE, type VmxResult } from "../../assembly/abi/run.ts";
import * as s from "../../assembly/abi/state.ts";
import { VMCS_REVISION } from "../../assembly/abi/vmcsLayout.ts";
import * as x from "../../assembly/abi/x86.ts";
import type { CoreExports } from "./exports.ts";

const CS = 0x10;
const DS = 0x18;
const TR = 0x40;
const FEATURE_CONTROL_LOCKED_VMXON = 5n;
const NONE = 0xffff_ffff_ffff_ffffn;
const IA32_VMX_BASIC = 0x480;

/**
 * 64-bit root operation at CPL 0, as an operating system and its VMM set it up: IA32_FEATURE_CONTROL locked, CR0, CR4 and
 * EFER legal, no current VMCS, VMXON done with the region at `vmxon`.
 */
export function hostInit(exports: CoreExports, vmxon: bigint): VmxResult {
  const memory = new DataView(exports.memory.buffer);
  const put32 = (value: number, ...at: number[]): void => {
    for (const a of at) memory.setUint32(a, value, true);
  };
  const put64 = (value: bigint | number, ...at: number[]): void => {
    for (const a of at) memory.setBigUint64(a, BigInt(value), true);
  };
  const segment = (seg: number, selector: number, limit: number, rights: number): void => {
    const at = s.SEGS + seg;
    put32(selector, at + s.SG_SELECTOR);
    put64(0, at + s.SG_BASE);
    put32(limit, at + s.SG_LIMIT);
    put32(rights, at + s.SG_ATTR);
  };
  put32(0, s.VMX_STATE, s.VMX_ABORT, s.CPL, s.INTERRUPTIBILITY, s.ACTIVITY, s.DELIVERING, s.EV_INJECTED, s.TR_VPID);
  put64(0, s.CR3, s.RIP, s.GDTR_BASE, s.IDTR_BASE, s.PENDING_DEBUG, s.TR_EPTP);
  put64(NONE, s.CURRENT_VMCS, s.TR_APIC_PAGE);
  put64(FEATURE_CONTROL_LOCKED_VMXON, s.MSR_FEATURE_CONTROL);
  put64((x.CR0_PG | x.CR0_WP | x.CR0_NE | x.CR0_ET | x.CR0_MP | x.CR0_PE) >>> 0, s.CR0);
  put64(x.CR4_PAE | x.CR4_VMXE, s.CR4);
  put64(x.EFER_LMA | x.EFER_LME | x.EFER_NXE | x.EFER_SCE, s.EFER);
  put64(x.DR7_FIXED, s.DR7);
  put32(0xffff, s.GDTR_LIMIT, s.IDTR_LIMIT);
  for (let seg = 0; seg < s.SEG_LDTR; seg += s.SEG_SIZE) segment(seg, 0, 0, x.SA_UNUSABLE | x.SA_DB);
  segment(s.SEG_CS, CS, 0xffff_ffff, 11 | x.SA_S | x.SA_P | x.SA_L | x.SA_G);
  segment(s.SEG_SS, DS, 0xffff_ffff, 3 | x.SA_S | x.SA_P | x.SA_DB | x.SA_G);
  segment(s.SEG_LDTR, 0, 0, x.SA_UNUSABLE);
  segment(s.SEG_TR, TR, 0x67, x.TYPE_TSS32_BUSY | x.SA_P);
  exports.setRflags(BigInt(x.FLAG_FIXED));
  exports.restored();
  const region = exports.physToHost(vmxon) >>> 0;
  if (region !== 0 && exports.rdmsr(IA32_VMX_BASIC) === 0) {
    put32(memory.getUint32(COMM_VALUE, true) & 0x7fff_ffff, region + VMCS_REVISION);
    exports.noteHostWrite(region, 4);
  }
  return exports.vmxon(vmxon);
}
