import { alwaysHardware } from "./always-hardware.ts";
import { autoload } from "./autoload.ts";
import { clearAll } from "./clear-all.ts";
import { clearHost } from "./clear-host.ts";
import { everyEntry } from "./every-entry.ts";
import { hostNonzero } from "./host-nonzero.ts";
import type { Policy } from "./policy.ts";
import { upstream } from "./upstream.ts";
import { userReturn } from "./user-return.ts";

/** The policies of the thread, in the order of reports. */
export const POLICIES: readonly Policy[] = [upstream, clearHost, alwaysHardware, hostNonzero, clearAll];

/** Those and the ones that use another mechanism of KVM. */
export const ALL_POLICIES: readonly Policy[] = [...POLICIES, everyEntry, autoload, userReturn];

export class UnknownPolicyError extends Error {
  override name = "UnknownPolicyError";
  constructor(
    readonly policy: string,
    readonly known: readonly string[],
  ) {
    super(`unknown policy "${policy}"; there are: ${known.join(", ")}`);
  }
}

/** The policy of that name. */
export function policyByName(name: string, policies: readonly Policy[] = ALL_POLICIES): Policy {
  const policy = policies.find((candidate) => candidate.name === name);
  if (policy === undefined) {
    throw new UnknownPolicyError(
      name,
      policies.map((candidate) => candidate.name),
    );
  }
  return policy;
}
