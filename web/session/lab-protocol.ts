import type { Interval } from "../../src/cost/index.ts";
import type { BreakEven } from "../../src/lab/index.ts";
import type { Program } from "./protocol.ts";

export interface LabRequest {
  readonly program: Program;
  readonly kernel: string;
  readonly cost: string;
}

export interface LabRow {
  readonly policy: string;
  readonly host: number;
  readonly right: boolean;
  readonly wrong: string;
  readonly exits: number;
  readonly cpuidExits: number;
  readonly wrmsr: number;
  readonly rdmsr: number;
  readonly total: Interval;
  readonly leaks: number;
  readonly cheapest: boolean;
}

export interface LabReport {
  readonly model: string;
  /** Cycles of the model. */
  readonly exit: Interval;
  readonly wrmsr: Interval;
  readonly rdmsr: Interval;
  readonly rows: readonly LabRow[];
  readonly breakEven: BreakEven | undefined;
  /** How the guest ends where nothing can leak. */
  readonly ending: string;
}

export type LabMessage =
  | { readonly kind: "progress"; readonly text: string }
  | { readonly kind: "report"; readonly report: LabReport }
  | { readonly kind: "error"; readonly message: string };
