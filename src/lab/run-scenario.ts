import type { Counters, MsrCause } from "../cost/index.ts";
import { Host } from "../kvm/index.ts";
import type { GuestImage } from "../machine/index.ts";
import { ALL_POLICIES, type Policy, policyByName } from "../policy/index.ts";
import type { TraceSink } from "../trace/index.ts";
import { MIX_MEMORY, mixImage } from "./mix.ts";
import { MIX_KEYS, type Scenario } from "./scenario.ts";
import { type ScheduleCounts, Scheduler } from "./scheduler.ts";
import { type GuestEnding, Vmm } from "./vmm.ts";

/** Where the guest of a sweep comes from. */
export type GuestSource =
  | { readonly kind: "mix"; readonly binary: Uint8Array }
  | { readonly kind: "image"; readonly image: GuestImage; readonly memory: number };

/** What one scenario gave: counts only, so that every cost model can be applied to it. */
export interface ScenarioResult {
  readonly scenario: Scenario;
  /** Every vCPU printed and ended as on a host where nothing can leak. */
  readonly right: boolean;
  /** Why not, "" when right. */
  readonly wrong: string;
  readonly leaks: { readonly faulting: number; readonly ring3mwait: number };
  readonly counts: Readonly<Counters>;
  readonly schedule: Readonly<ScheduleCounts>;
  readonly rdmsr: Readonly<Record<MsrCause, number>>;
  readonly wrmsr: Readonly<Record<MsrCause, number>>;
  readonly exitsByReason: Readonly<Record<number, number>>;
}

export interface RunScenarioOptions {
  readonly policies?: readonly Policy[];
  readonly trace?: (host: Host, scenario: Scenario) => TraceSink;
}

interface Run {
  readonly outputs: readonly string[];
  readonly endings: readonly GuestEnding[];
  readonly instructions: readonly bigint[];
  readonly host: Host;
  readonly scheduler: Scheduler;
}

function imageOf(source: GuestSource, scenario: Scenario): { image: GuestImage; memory: number } {
  if (source.kind === "image") return source;
  return { image: mixImage(source.binary, scenario), memory: MIX_MEMORY };
}

function execute(source: GuestSource, scenario: Scenario, options: RunScenarioOptions): Run {
  const { image, memory } = imageOf(source, scenario);
  const policy = policyByName(scenario.policy, options.policies ?? ALL_POLICIES);
  const host = new Host({
    memory: memory * scenario.vcpus + (scenario.vcpus << 20),
    hostValue: scenario.host,
    cpuidFault: scenario.feature,
  });
  const scheduler = new Scheduler(host, scenario);
  const { hostValueFrom, switchPoint } = scenario;
  const outputs = Array.from({ length: scenario.vcpus }, (_, i) => {
    const bytes: number[] = [];
    scheduler.add(
      `vmm${i}`,
      () =>
        new Vmm({
          host,
          image,
          memory,
          kernel: scenario.kernel,
          policy,
          policyOptions: { switchPoint, ...(hostValueFrom === "policy" ? {} : { hostValue: hostValueFrom }) },
          maxInstructions: scenario.maxInstructions,
          preemptEvery: scenario.preemptEvery,
          ioctlsPerExit: scenario.ioctls,
          console: (byte) => bytes.push(byte),
          inUserSpace: () => scheduler.checkHostValue(),
        }),
    );
    return bytes;
  });
  host.ledger.restart();
  host.trace = options.trace?.(host, scenario);
  scheduler.run();
  host.trace = undefined;
  return {
    outputs: outputs.map((bytes) => bytes.map((byte) => String.fromCharCode(byte)).join("")),
    endings: scheduler.threads.map(({ ending }) => ending ?? { kind: "interrupted" }),
    instructions: scheduler.threads.map(({ vmm }) => vmm.vcpu.vmx.instructions),
    host,
    scheduler,
  };
}

function describe(ending: GuestEnding): string {
  return ending.kind === "exit" ? `exit status ${ending.status}` : ending.kind;
}

function whyWrong(run: Run, truth: Reference): string {
  for (const [i, ending] of run.endings.entries()) {
    if (describe(ending) !== describe(truth.ending)) return `vCPU ${i}: ${describe(ending)}`;
    if (run.outputs[i] !== truth.output) return `vCPU ${i}: other output`;
    if (run.instructions[i] !== truth.instructions) return `vCPU ${i}: another number of instructions`;
  }
  return "";
}

/** One vCPU alone on a host CPU without the feature, where nothing can leak. */
interface Reference {
  readonly output: string;
  readonly ending: GuestEnding;
  readonly instructions: bigint;
}

/** Runs scenarios of one guest; the references they are judged by are kept. */
export class ScenarioRunner {
  readonly #references = new Map<string, Reference>();

  constructor(
    readonly source: GuestSource,
    readonly options: RunScenarioOptions = {},
  ) {}

  run(scenario: Scenario): ScenarioResult {
    const truth = this.#reference(scenario);
    const run = execute(this.source, scenario, this.options);
    const wrong = whyWrong(run, truth);
    const { ledger } = run.host;
    const leaks = { faulting: 0, ring3mwait: 0 };
    for (const { vmm } of run.scheduler.threads) {
      leaks.faulting += vmm.vcpu.vmx.leaks.faulting;
      leaks.ring3mwait += vmm.vcpu.vmx.leaks.ring3mwait;
    }
    return {
      scenario,
      right: wrong === "",
      wrong,
      leaks,
      counts: { ...ledger.counts },
      schedule: { ...run.scheduler.counts },
      rdmsr: { ...ledger.rdmsr },
      wrmsr: { ...ledger.wrmsr },
      exitsByReason: Object.fromEntries([...ledger.exitsByReason].sort((a, b) => a[0] - b[0])),
    };
  }

  #reference(scenario: Scenario): Reference {
    const plain: Scenario = {
      ...scenario,
      policy: "upstream",
      host: 0,
      feature: false,
      preemptEvery: 0,
      migrateEvery: 0,
      vmcsSwitchEvery: 0,
      raceEvery: 0,
      ioctls: 0,
      vcpus: 1,
      hostCpus: 1,
      switchPoint: "prepare",
      hostValueFrom: "policy",
    };
    const key = JSON.stringify([...MIX_KEYS.map((name) => plain[name]), plain.kernel, plain.maxInstructions]);
    let known = this.#references.get(key);
    if (known === undefined) {
      const run = execute(this.source, plain, { policies: ALL_POLICIES });
      known = { output: run.outputs[0]!, ending: run.endings[0]!, instructions: run.instructions[0]! };
      this.#references.set(key, known);
    }
    return known;
  }
}
