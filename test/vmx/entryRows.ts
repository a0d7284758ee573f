// One entry for each row of vm-entry-checks.csv: VMCS changes that break its rule and near misses that do not.
import { controlsRows } from "./entryControls.ts";
import { guestRows } from "./entryGuest.ts";
import { hostRows } from "./entryHost.ts";
import { stateRows } from "./entryState.ts";
import type { RowTest } from "./entryTools.ts";

export type { Case } from "./entryTools.ts";
export const rowTests: Readonly<Record<number, RowTest>> = { ...controlsRows, ...hostRows, ...guestRows, ...stateRows };

/** Rows without a test, and why. */
export const notReachable: Readonly<Record<number, string>> = {
  2: "VMLAUNCH in non-root operation is an instruction of guest code",
  5: "VMPTRLD refuses a shadow VMCS as long as VMCS shadowing is not advertised",
  15: "use TPR shadow is not advertised",
  16: "use TPR shadow is not advertised",
  17: "use TPR shadow is not advertised",
  20: "virtualize APIC accesses is not advertised",
  21: "the APIC controls are not advertised",
  22: "the APIC controls are not advertised",
  23: "virtual-interrupt delivery is not advertised",
  24: "posted interrupts are not advertised",
  27: "PML is not advertised",
  29: "VM functions are not advertised",
  30: "VMCS shadowing is not advertised",
  31: "EPT-violation #VE is not advertised",
  49: "load IA32_PERF_GLOBAL_CTRL is not advertised",
  69: "load IA32_PERF_GLOBAL_CTRL is not advertised",
  72: "load IA32_BNDCFGS is not advertised",
  102: "the wait-for-SIPI activity state is not advertised",
  112: "there is no source of machine checks",
};
