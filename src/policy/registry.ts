import { alwaysHardware } from "./always-hardware.ts";
import { clearAll } from "./clear-all.ts";
import { clearHost } from "./clear-host.ts";
import { hostNonzero } from "./host-nonzero.ts";
import type { Policy } from "./policy.ts";
import { upstream } from "./upstream.ts";

/** The built-in policies, in the order of reports. */
export const POLICIES: readonly Policy[] = [upstream, clearHost, alwaysHardware, hostNonzero, clearAll];

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
export function policyByName(name: string, policies: readonly Policy[] = POLICIES): Policy {
  const policy = policies.find((candidate) => candidate.name === name);
  if (policy === undefined) {
    throw new UnknownPolicyError(
      name,
      policies.map((candidate) => candidate.name),
    );
  }
  return policy;
}
