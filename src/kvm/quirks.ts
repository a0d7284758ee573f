/** What KVM_CAP_DISABLE_QUIRKS turns off, by the kernel's names; bits without a name here change nothing that is built. */
export const KVM_X86_QUIRK_LINT0_REENABLED = 1;
export const KVM_X86_QUIRK_LAPIC_MMIO_HOLE = 4;
/** RIP is past an OUT to port 0x7E before user space has seen it. */
export const KVM_X86_QUIRK_OUT_7E_INC_RIP = 8;
export const KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS = 64;
export const KVM_X86_QUIRK_STUFF_FEATURE_MSRS = 256;

/** Bits that KVM_CAP_DISABLE_QUIRKS2 takes. */
export const KVM_X86_VALID_QUIRKS = 0x3ff;
