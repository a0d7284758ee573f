/**
 * The VMX controls that the core implements, by their names in tables/control-bits.csv. The capability MSRs and the
 * set of VMCS fields follow from this list: a control is added here in the change that builds it.
 */
export const advertised: Record<string, readonly string[]> = {
  "pin-based": ["external-interrupt exiting", "NMI exiting", "virtual NMIs", "activate VMX-preemption timer"],
  "primary-proc-based": [
    "interrupt-window exiting",
    "use TSC offsetting",
    "HLT exiting",
    "INVLPG exiting",
    "MWAIT exiting",
    "RDPMC exiting",
    "RDTSC exiting",
    "CR3-load exiting",
    "CR3-store exiting",
    "CR8-load exiting",
    "CR8-store exiting",
    "NMI-window exiting",
    "MOV-DR exiting",
    "unconditional I/O exiting",
    "use I/O bitmaps",
    "monitor trap flag",
    "use MSR bitmaps",
    "MONITOR exiting",
    "PAUSE exiting",
    "activate secondary controls",
  ],
  "secondary-proc-based": [
    "enable EPT",
    "descriptor-table exiting",
    "enable RDTSCP",
    "enable VPID",
    "WBINVD exiting",
    "unrestricted guest",
    "RDRAND exiting",
    "enable INVPCID",
    "RDSEED exiting",
    "use TSC scaling",
  ],
  "primary-exit": [
    "save debug controls",
    "host address-space size",
    "acknowledge interrupt on exit",
    "save IA32_PAT",
    "load IA32_PAT",
    "save IA32_EFER",
    "load IA32_EFER",
    "save VMX-preemption timer value",
  ],
  entry: ["load debug controls", "IA-32e mode guest", "load IA32_PAT", "load IA32_EFER"],
};

/** Default1 controls that the TRUE capability MSRs let software clear (SDM appendix A.2). */
export const clearable: Record<string, readonly string[]> = {
  "primary-proc-based": ["CR3-load exiting", "CR3-store exiting"],
  "primary-exit": ["save debug controls"],
  entry: ["load debug controls"],
};
