/** Registers that the VMCS does not hold, kept here while another vCPU has the core. */
export interface SavedRegisters {
  readonly gpr: bigint[];
  /** CR2, DR0-DR3, DR6, XCR0, KERNEL_GS_BASE, TSC_AUX as the state block has them. */
  readonly rest: bigint[];
}

/** What the host knows of a vCPU whose registers the core holds. */
export interface ResidentVcpu {
  readonly id: number;
  saved: SavedRegisters | undefined;
}

/** msr_autoload of struct vcpu_vmx, for one MSR. */
export interface AtomicSwitch {
  readonly page: bigint;
  /** Value the entry loads, or undefined while the lists are empty. */
  guest: bigint | undefined;
}
