import { type Counters, Ledger, type MsrCause } from "../cost/index.ts";
import { Host } from "../kvm/index.ts";
import type { GuestImage } from "../machine/index.ts";
import { ALL_POLICIES, guarded, type Policy, PolicyError, policyByName } from "../policy/index.ts";
import type { TraceSink } from "../trace/index.ts";
import { MIX_MEMORY, mixImage } from "./mix.ts";
import { type Scenario, tickOf, vmsOf } from "./scenario.ts";
import { noScheduleCounts, type ScheduleCounts, Scheduler } from "./scheduler.ts";
import { type GuestEnding, Vmm } from "./vmm.ts";

/** Where the guest of a sweep comes from. */
export type GuestSource =
  /** `smp` is the guest for VMs of several vCPUs. */
  | { readonly kind: "mix"; readonly binary: Uint8Array; readonly smp?: Uint8Array }
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
  const { vcpusPerVm } = scenario;
  const binary = vcpusPerVm > 1 ? source.smp : source.binary;
  if (binary === undefined)
    throw new RangeError("the laboratory's guest for several vCPUs a VM (smp.bin) was not given");
  return { image: mixImage(binary, scenario, vcpusPerVm), memory: MIX_MEMORY };
}

function execute(source: GuestSource, scenario: Scenario, options: RunScenarioOptions): Run {
  const { image, memory } = imageOf(source, scenario);
  const policy = guarded(policyByName(scenario.policy, options.policies ?? ALL_POLICIES));
  const vms = vmsOf(scenario);
  const tickEvery = tickOf(scenario);
  const host = new Host({
    memory: memory * vms + ((vms * scenario.vcpusPerVm) << 20),
    hostValue: scenario.host,
    cpuidFault: scenario.feature,
  });
  const scheduler = new Scheduler(host, { ...scenario, tickEvery });
  const { hostValueFrom, switchPoint } = scenario;
  const outputs = Array.from({ length: vms }, (_, i) => {
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
          vcpus: scenario.vcpusPerVm,
          yieldWhenWaiting: scenario.vcpusPerVm > 1,
          preemptEvery: tickEvery > 0 ? tickEvery : scenario.preemptEvery,
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
    instructions: scheduler.threads.map(({ vcpu }) => vcpu.vmx.instructions),
    host,
    scheduler,
  };
}

function describe(ending: GuestEnding): string {
  return ending.kind === "exit" ? `exit status ${ending.status}` : ending.kind;
}

function whyWrong(run: Run, truth: Reference, perVm: number): string {
  for (const [i, ending] of run.endings.entries()) {
    const expected = truth.endings[i % truth.endings.length]!;
    if (describe(ending) !== describe(expected)) return `vCPU ${i}: ${describe(ending)}`;
    const vm = Math.floor(i / perVm);
    if (run.outputs[vm] !== truth.outputs[vm % truth.outputs.length]) return `vCPU ${i}: other output`;
    if (run.instructions[i] !== truth.instructions[i % truth.instructions.length]) {
      return `vCPU ${i}: another number of instructions`;
    }
  }
  return "";
}

/**
 * On host CPUs without the feature, where nothing can leak: a vCPU alone, or for VMs of several vCPUs, which see when the
 * others run, the same schedule.
 */
interface Reference {
  readonly outputs: readonly string[];
  readonly endings: readonly GuestEnding[];
  readonly instructions: readonly bigint[];
}

function failed(scenario: Scenario, wrong: string): ScenarioResult {
  const { counts, rdmsr, wrmsr } = new Ledger();
  const schedule = noScheduleCounts();
  return {
    scenario,
    right: false,
    wrong,
    leaks: { faulting: 0, ring3mwait: 0 },
    counts,
    schedule,
    rdmsr,
    wrmsr,
    exitsByReason: {},
  };
}

/** Runs scenarios of one guest; the references they are judged by are kept. */
export class ScenarioRunner {
  readonly #references = new Map<string, Reference>();

  constructor(
    readonly source: GuestSource,
    readonly options: RunScenarioOptions = {},
  ) {}

  /** A policy that throws is wrong: its error is the reason, and nothing is counted. */
  run(scenario: Scenario): ScenarioResult {
    const truth = this.#reference(scenario);
    let run: Run;
    try {
      run = execute(this.source, scenario, this.options);
    } catch (error) {
      if (error instanceof PolicyError) return failed(scenario, error.message);
      throw error;
    }
    const wrong = whyWrong(run, truth, scenario.vcpusPerVm);
    const { ledger } = run.host;
    const leaks = { faulting: 0, ring3mwait: 0 };
    for (const { vcpu } of run.scheduler.threads) {
      leaks.faulting += vcpu.vmx.leaks.faulting;
      leaks.ring3mwait += vcpu.vmx.leaks.ring3mwait;
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
    const { tickEvery, preemptEvery, migrateEvery, vcpus, hostCpus } = scenario;
    const together = scenario.vcpusPerVm > 1;
    const schedule = together ? { tickEvery, preemptEvery, migrateEvery, vcpus, hostCpus } : {};
    const plain: Scenario = {
      ...scenario,
      policy: "upstream",
      host: 0,
      feature: false,
      tickEvery: 0,
      preemptEvery: 0,
      migrateEvery: 0,
      vmcsSwitchEvery: 0,
      raceEvery: 0,
      ioctls: 0,
      vcpus: 1,
      hostCpus: 1,
      switchPoint: "prepare",
      hostValueFrom: "policy",
      ...schedule,
    };
    const key = JSON.stringify(plain);
    let known = this.#references.get(key);
    if (known === undefined) {
      const run = execute(this.source, plain, { policies: ALL_POLICIES });
      known = { outputs: run.outputs, endings: run.endings, instructions: run.instructions };
      this.#references.set(key, known);
    }
    return known;
  }
}
