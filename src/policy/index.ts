export { alwaysHardware } from "./always-hardware.ts";
export { clearAll } from "./clear-all.ts";
export { clearHost } from "./clear-host.ts";
export { HeldPolicy } from "./held.ts";
export { hostNonzero } from "./host-nonzero.ts";
export {
  CPUID_FAULT,
  type HostValueSource,
  MSR_MISC_FEATURES_ENABLES,
  type Policy,
  type PolicyHost,
  type PolicyOptions,
  type VcpuPolicy,
} from "./policy.ts";
export { POLICIES, policyByName, UnknownPolicyError } from "./registry.ts";
export { upstream } from "./upstream.ts";
