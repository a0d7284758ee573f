// One entry for each row of vm-entry-checks.csv: VMCS changes that break its rule and near misses that do not.
import { apicRows } from "./entryApic.ts";
import { controlsRows } from "./entryControls.ts";
import { guestRows } from "./entryGuest.ts";
import { hostRows } from "./entryHost.ts";
import { stateRows } from "./entryState.ts";
import type { RowTest } from "./entryTools.ts";

export type { Case } from "./entryTools.ts";
export const rowTests: Readonly<Record<number, RowTest>> = {
  ...controlsRows,
  ...apicRows,
  ...hostRows,
  ...guestRows,
  ...stateRows,
};

/** Rows without a test, and why. */
export const notReachable: Readonly<Record<number, string>> = {
  2: "VMLAUNCH in non-root operation is an instruction of guest code",
  31: "EPT-violation #VE is not advertised",
  49: "load IA32_PERF_GLOBAL_CTRL is not advertised",
  69: "load IA32_PERF_GLOBAL_CTRL is not advertised",
  72: "load IA32_BNDCFGS is not advertised",
  102: "the wait-for-SIPI activity state is not advertised",
  112: "there is no source of machine checks",
};
