import { type Interval, interval } from "./interval.ts";

/** One figure of a model and where it comes from. */
export interface Cost {
  readonly cycles: Interval;
  /** Who measured or stated it, and when. */
  readonly source: string;
}

/** What each event costs, in cycles of the host CPU. */
export interface CostModel {
  readonly name: string;
  readonly summary: string;
  /** One guest instruction, without exits. */
  readonly instruction: Cost;
  /** One VM exit and the entry after it, with its handling in the kernel. */
  readonly exit: Cost;
  /** One WRMSR of the host. */
  readonly wrmsr: Cost;
  /** One RDMSR of the host. */
  readonly rdmsr: Cost;
  /** KVM_RUN's way to user space and back, without the MSR switches. */
  readonly userspace: Cost;
  /** Delivery of one exception through the guest's IDT, by hardware or by injection. */
  readonly fault: Cost;
  /** One MSR that a VM entry or exit loads from its list. */
  readonly autoload: Cost;
}

/** The event kinds a model prices. */
export const COST_KINDS = ["instruction", "exit", "wrmsr", "rdmsr", "userspace", "fault", "autoload"] as const;
export type CostKind = (typeof COST_KINDS)[number];

export class CostModelError extends Error {
  override name = "CostModelError";
}

function parseCost(kind: string, value: unknown): Cost {
  const bad = (why: string): never => {
    throw new CostModelError(`cost model: "${kind}" ${why}`);
  };
  const range = (low: unknown, high: unknown, source: unknown): Cost => {
    if (
      typeof low !== "number" ||
      typeof high !== "number" ||
      !(low >= 0) ||
      !(high >= low) ||
      !Number.isFinite(high)
    ) {
      return bad("needs numbers with 0 <= low <= high");
    }
    return { cycles: interval(low, high), source: typeof source === "string" ? source : "user" };
  };
  if (typeof value === "number") return range(value, value, undefined);
  if (Array.isArray(value)) return range(value[0], value[1], value[2]);
  if (typeof value === "object" && value !== null) {
    const { low, high, source } = value as Record<string, unknown>;
    return range(low, high ?? low, source);
  }
  return bad("is missing; give a number, [low, high] or { low, high, source }");
}

/** No source prices an MSR of the lists: taken as one WRMSR. */
export function autoloadAs(wrmsr: Cost): Cost {
  return { cycles: wrmsr.cycles, source: `as one WRMSR, for want of a measurement; ${wrmsr.source}` };
}

/** Reads a user's model: an object with a name and one figure a kind. Throws CostModelError. */
export function parseCostModel(value: unknown): CostModel {
  if (typeof value !== "object" || value === null) throw new CostModelError("cost model: not an object");
  const record = value as Record<string, unknown>;
  const costs = {} as Record<CostKind, Cost>;
  for (const kind of COST_KINDS) {
    const missing = kind === "autoload" && record[kind] === undefined;
    costs[kind] = missing ? autoloadAs(costs.wrmsr) : parseCost(kind, record[kind]);
  }
  return {
    name: typeof record.name === "string" ? record.name : "user",
    summary: typeof record.summary === "string" ? record.summary : "given by the user",
    ...costs,
  };
}
