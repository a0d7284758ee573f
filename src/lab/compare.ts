import { type CostModel, type Counters, type CycleReport, costModel, Ledger } from "../cost/index.ts";
import { kernelRules } from "../kvm/index.ts";
import type { GuestImage } from "../machine/index.ts";
import { guarded, POLICIES, type Policy, PolicyError } from "../policy/index.ts";
import { type BreakEven, breakEven } from "./break-even.ts";
import { type GuestRunResult, runGuestUnderVmx } from "./guest-run.ts";
import { labTrace } from "./lab-trace.ts";
import type { GuestEnding } from "./vmm.ts";

export interface CompareOptions {
  readonly image: GuestImage;
  readonly memory?: number;
  readonly kernel?: string;
  readonly cost?: string | CostModel;
  /** Host values of 0x140 to try, 0 to 3. Default 0 and 1. */
  readonly hosts?: readonly number[];
  readonly policies?: readonly Policy[];
  readonly maxInstructions?: number;
  /** Called before each run. */
  readonly progress?: (policy: string, host: number) => void;
  /** One line a trace event, as trace-cmd prints it. */
  readonly trace?: (line: string, policy: string, host: number) => void;
}

const CPUID = "CPUID";

/** One guest under one policy on one host. */
export interface CompareRow {
  readonly policy: string;
  readonly host: number;
  /** The guest saw what it would on a host without CPUID faulting, where nothing can leak. */
  readonly right: boolean;
  /** Why not, "" when right. */
  readonly wrong: string;
  readonly ending: GuestEnding;
  readonly output: string;
  readonly instructions: number;
  readonly exits: number;
  readonly cpuidExits: number;
  /** Host MSR accesses by the policy. */
  readonly wrmsr: number;
  readonly rdmsr: number;
  readonly hardwareFaults: number;
  readonly injectedFaults: number;
  readonly cycles: CycleReport;
  readonly counts: Readonly<Counters>;
  /** Entries with the host's faulting bit on against the guest's wish, and with the host's ring-3 MWAIT bit on. */
  readonly leaks: { readonly faulting: number; readonly ring3mwait: number };
  /** The host's value is back after the last put. */
  readonly hostKept: boolean;
}

export interface Winner {
  readonly host: number;
  /** Cheapest by midpoint of the policies that are right, leak nothing and keep the host's value; several when they tie. */
  readonly policies: readonly string[];
}

export interface CompareReport {
  readonly kernel: string;
  readonly model: CostModel;
  /** Output and ending that every policy should give. */
  readonly reference: { readonly output: string; readonly ending: GuestEnding; readonly instructions: number };
  readonly rows: readonly CompareRow[];
  readonly winners: readonly Winner[];
  /** undefined when the guest never faults, or host 0 or a policy it needs was left out. */
  readonly breakEven: BreakEven | undefined;
}

class Output {
  readonly #bytes: number[] = [];
  readonly put = (byte: number): void => {
    this.#bytes.push(byte);
  };
  /** One character a byte. */
  get text(): string {
    return this.#bytes.map((byte) => String.fromCharCode(byte)).join("");
  }
}

function sameEnding(a: GuestEnding, b: GuestEnding): boolean {
  return a.kind === b.kind && (a.kind !== "exit" || b.kind !== "exit" || a.status === b.status);
}

function describe(ending: GuestEnding): string {
  if (ending.kind === "exit") return `exit status ${ending.status}`;
  return ending.kind === "failed" ? ending.message : ending.kind;
}

function whyWrong(run: GuestRunResult, output: string, reference: CompareReport["reference"]): string {
  if (!sameEnding(run.ending, reference.ending)) {
    return `ended with ${describe(run.ending)}, not ${describe(reference.ending)}`;
  }
  if (output !== reference.output) return "other output than on a host without CPUID faulting";
  if (run.instructions !== reference.instructions) return "another number of instructions";
  return "";
}

function toRow(
  run: GuestRunResult,
  output: string,
  host: number,
  model: CostModel,
  reference: CompareReport["reference"],
): CompareRow {
  const wrong = whyWrong(run, output, reference);
  return {
    policy: run.policy,
    host,
    right: wrong === "",
    wrong,
    ending: run.ending,
    output,
    instructions: run.instructions,
    exits: run.counts.exits,
    cpuidExits: run.exits[CPUID] ?? 0,
    wrmsr: run.ledger.wrmsr.policy,
    rdmsr: run.ledger.rdmsr.policy,
    hardwareFaults: run.counts.hardware_faults,
    injectedFaults: run.counts.injected_faults,
    cycles: run.ledger.cycles(model),
    counts: run.counts,
    leaks: run.leaks,
    hostKept: run.hostBefore === run.hostAfter,
  };
}

/** A policy that threw: nothing is counted. */
function failedRow(error: PolicyError, output: string, host: number, model: CostModel): CompareRow {
  const ledger = new Ledger();
  return {
    ...{ policy: error.policy, host, right: false, wrong: error.message, output },
    ending: { kind: "failed", message: error.message },
    ...{ instructions: 0, exits: 0, cpuidExits: 0, wrmsr: 0, rdmsr: 0, hardwareFaults: 0, injectedFaults: 0 },
    cycles: ledger.cycles(model),
    counts: ledger.counts,
    leaks: { faulting: 0, ring3mwait: 0 },
    hostKept: true,
  };
}

/** Did a bit of the host act in the guest, whether the guest noticed or not? */
function leaks(row: CompareRow): boolean {
  return row.leaks.faulting > 0 || row.leaks.ring3mwait > 0;
}

function winner(host: number, rows: readonly CompareRow[]): Winner {
  const right = rows.filter((row) => row.host === host && row.right && row.hostKept && !leaks(row));
  const best = Math.min(...right.map((row) => row.cycles.midpoint));
  return { host, policies: right.filter((row) => row.cycles.midpoint === best).map((row) => row.policy) };
}

/** Runs one guest under every policy and host value, and says which result is right and which is cheapest. */
export function compare(options: CompareOptions): CompareReport {
  const { image, memory, maxInstructions, kernel = "5.0", cost = "thread-trip" } = options;
  const model = typeof cost === "string" ? costModel(cost) : cost;
  const rules = kernelRules(kernel);
  const hosts = options.hosts ?? [0, 1];
  const policies = options.policies ?? POLICIES;
  const common = {
    image,
    kernel,
    ...(memory === undefined ? {} : { memory }),
    ...(maxInstructions === undefined ? {} : { maxInstructions }),
  };
  const truth = new Output();
  const plain = runGuestUnderVmx({
    ...common,
    console: truth.put,
    policy: "upstream",
    hostOptions: { cpuidFault: false },
  });
  const reference = { output: truth.text, ending: plain.ending, instructions: plain.instructions };
  const rows: CompareRow[] = [];
  for (const host of hosts) {
    for (const policy of policies) {
      options.progress?.(policy.name, host);
      const output = new Output();
      const { trace } = options;
      try {
        const run = runGuestUnderVmx({
          ...common,
          console: output.put,
          policy: guarded(policy),
          hostOptions: { hostValue: host },
          ...(trace && {
            sink: (machine) => labTrace(machine, model, (line) => trace(line, policy.name, host), rules.version),
          }),
        });
        rows.push(toRow(run, output.text, host, model, reference));
      } catch (error) {
        if (!(error instanceof PolicyError)) throw error;
        rows.push(failedRow(error, output.text, host, model));
      }
    }
  }
  const find = (policy: string): CompareRow | undefined => rows.find((r) => r.host === 0 && r.policy === policy);
  const emulated = find("host-nonzero");
  const hardware = find("always-hardware");
  return {
    kernel,
    model,
    reference,
    rows,
    winners: hosts.map((host) => winner(host, rows)),
    breakEven: emulated && hardware && breakEven(model, emulated, hardware),
  };
}
