import { KVM_MSR_FILTER_READ, KVM_MSR_FILTER_WRITE, kvmMsrAllowed, type MsrFilter } from "./msr-filter.ts";

/** MSRs that the guest reads and writes without an exit; TSC only reads. 0xCE and 0x140 always exit. */
const PASSTHROUGH = [0xc000_0100, 0xc000_0101, 0xc000_0102, 0x174, 0x175, 0x176];
const MSR_IA32_TSC = 0x10;

/** The MSR bitmap of a vCPU; what the filter denies exits. @kvm vmx_disable_intercept_for_msr, vmx_msr_filter_changed */
export function msrBitmap(filter: MsrFilter | undefined): Uint8Array {
  const bitmap = new Uint8Array(4096).fill(0xff);
  const pass = (msr: number, write: boolean): void => {
    if (!kvmMsrAllowed(filter, msr, write ? KVM_MSR_FILTER_WRITE : KVM_MSR_FILTER_READ)) return;
    const byte = (write ? 0x800 : 0) + (msr >= 0xc000_0000 ? 0x400 : 0) + ((msr & 0x1fff) >> 3);
    bitmap[byte]! &= ~(1 << (msr & 7));
  };
  pass(MSR_IA32_TSC, false);
  for (const msr of PASSTHROUGH) {
    pass(msr, false);
    pass(msr, true);
  }
  return bitmap;
}
