import type { Policy, PolicyHost, PolicyOptions, VcpuPolicy } from "./policy.ts";

/** A policy threw, or did what raises #GP(0) on the processor. */
export class PolicyError extends Error {
  override name = "PolicyError";
  constructor(
    readonly policy: string,
    /** Method of the policy. */
    readonly method: string,
    override readonly cause: unknown,
  ) {
    super(`policy ${policy}, ${method}: ${cause instanceof Error ? cause.message : String(cause)}`);
  }
}

/** The same policy, whose errors say that they are its own: PolicyError. */
export function guarded(policy: Policy): Policy {
  const call = <T>(method: string, body: () => T): T => {
    try {
      return body();
    } catch (error) {
      throw error instanceof PolicyError ? error : new PolicyError(policy.name, method, error);
    }
  };
  const attach = (host: PolicyHost, options: PolicyOptions): VcpuPolicy => {
    const face: PolicyHost = Object.create(host, {
      onUserReturn: {
        value: (notifier: () => void) => host.onUserReturn(() => call("the notifier of onUserReturn", notifier)),
      },
    });
    const vcpu = call("attach", () => policy.attach(face, options));
    return {
      prepareSwitchToGuest: (guest) => call("prepareSwitchToGuest", () => vcpu.prepareSwitchToGuest(guest)),
      setMsrLoaded: (data) => call("setMsrLoaded", () => vcpu.setMsrLoaded(data)),
      prepareSwitchToHost: () => call("prepareSwitchToHost", () => vcpu.prepareSwitchToHost()),
      ...(vcpu.beforeEntry && { beforeEntry: (guest: bigint) => call("beforeEntry", () => vcpu.beforeEntry!(guest)) }),
      ...(vcpu.afterExit && { afterExit: () => call("afterExit", () => vcpu.afterExit!()) }),
    };
  };
  return { ...policy, attach };
}
