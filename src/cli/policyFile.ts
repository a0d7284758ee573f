import { existsSync } from "node:fs";
import { register } from "node:module";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { ALL_POLICIES, type Policy } from "../policy/index.ts";
import { UsageError } from "./args.ts";
import { packageRoot } from "./packageRoot.ts";

const METHODS = ["prepareSwitchToGuest", "setMsrLoaded", "prepareSwitchToHost"] as const;

/** Why a value is no policy, or undefined. Attaches it once to a host of no effect to see its methods. */
function problem(value: unknown): string | undefined {
  if (typeof value !== "object" || value === null) return "is not an object";
  const policy = value as Partial<Policy>;
  if (typeof policy.name !== "string" || !/^[\w.-]+$/.test(policy.name)) {
    return "needs a name of letters, digits, dots and dashes";
  }
  if (typeof policy.attach !== "function") return `(${policy.name}) needs attach(host, options)`;
  const nothing = {
    rdmsrl: () => 0n,
    wrmsrl: () => {},
    shadow: 0n,
    loaded: false,
    snapshot: 0n,
    cpu: {},
    addAtomicSwitchMsr: () => {},
    clearAtomicSwitchMsr: () => {},
    onUserReturn: () => {},
  };
  const vcpu = policy.attach(nothing, policy.defaults ?? DEFAULTS);
  const missing = METHODS.filter((method) => typeof vcpu?.[method] !== "function");
  return missing.length > 0 ? `(${policy.name}): what attach returns has no ${missing.join(", ")}` : undefined;
}

const DEFAULTS: Policy["defaults"] = { hostValue: "rdmsr", restoreReads: false };

let hooked = false;

async function importFile(path: string): Promise<unknown> {
  if (!hooked) register(new URL("dist/src/cli/policyHooks.js", packageRoot()));
  hooked = true;
  return import(pathToFileURL(path).href);
}

/** Policies of the user: the default export of a module, one or a list. */
export async function loadPolicyFile(file: string): Promise<Policy[]> {
  const path = resolve(file);
  if (!existsSync(path)) throw new UsageError(`cannot read policy file ${file}: there is no such file`);
  let module: { default?: unknown };
  try {
    module = (await importFile(path)) as { default?: unknown };
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`cannot load policy file ${file}: ${(error as Error).message}`);
  }
  const found = Array.isArray(module.default) ? module.default : [module.default];
  if (module.default === undefined || found.length === 0) {
    throw new UsageError(`policy file ${file} has no default export; it needs a policy or a list of policies`);
  }
  const policies = found.map((value) => {
    let why: string | undefined;
    try {
      why = problem(value);
    } catch (error) {
      why = `attach failed: ${(error as Error).message}`;
    }
    if (why !== undefined) throw new UsageError(`policy file ${file}: the policy ${why}`);
    const { summary = "of the user", source = file, defaults = DEFAULTS } = value as Policy;
    return { ...(value as Policy), attach: (value as Policy).attach.bind(value), summary, source, defaults };
  });
  for (const { name } of policies) {
    if (ALL_POLICIES.some((policy) => policy.name === name) || policies.filter((p) => p.name === name).length > 1) {
      throw new UsageError(`policy file ${file}: there is already a policy "${name}"`);
    }
  }
  return policies;
}
