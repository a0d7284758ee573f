export { alwaysHardware } from "./always-hardware.ts";
export { autoload } from "./autoload.ts";
export { clearAll } from "./clear-all.ts";
export { clearHost } from "./clear-host.ts";
export { everyEntry } from "./every-entry.ts";
export { guarded, PolicyError } from "./guarded.ts";
export { HeldPolicy } from "./held.ts";
export { hostNonzero } from "./host-nonzero.ts";
export {
  CPUID_FAULT,
  type HostValueSource,
  MSR_MISC_FEATURES_ENABLES,
  type Policy,
  type PolicyHost,
  type PolicyOptions,
  type SwitchPoint,
  type VcpuPolicy,
} from "./policy.ts";
export { PolicySwitch } from "./policy-switch.ts";
export { ALL_POLICIES, POLICIES, policyByName, UnknownPolicyError } from "./registry.ts";
export { upstream } from "./upstream.ts";
export { userReturn } from "./user-return.ts";
