import type { Policy, PolicyOptions } from "../../policy/index.ts";
import { alphabet, type CheckEvent, type Schedule } from "./event.ts";
import { replaySchedule } from "./replay.ts";
import { runSchedule, type Violation, type ViolationKind } from "./world.ts";

export interface CheckOptions {
  /** Random schedules after the short ones. Default 5,000. */
  readonly schedules?: number;
  readonly seed?: number;
  /** Host values the VMM threads may start with. Default 0 to 3. */
  readonly hosts?: readonly number[];
  /** Every schedule of two vCPUs up to this length is tried first. Default 3; 4 is a million schedules. */
  readonly exhaustive?: number;
  /** Longest random schedule. Default 12. */
  readonly length?: number;
  readonly policyOptions?: Partial<PolicyOptions>;
  /** Called now and then with the number of schedules that were tried. */
  readonly progress?: (tried: number) => void;
}

/** A way to make a policy go wrong. */
export interface Finding {
  readonly kind: ViolationKind;
  readonly schedule: Schedule;
  readonly violation: Violation;
  /** No schedule of fewer events shows it: all of them were tried. */
  readonly shortest: boolean;
  /** The emulated processor with guests shows it too. */
  readonly replayed: boolean;
}

export interface CheckReport {
  readonly policy: string;
  readonly findings: readonly Finding[];
  readonly tried: number;
  readonly seed: number;
}

const EXHAUSTIVE = 3;
const RANDOM = 5_000;
const FIRST = alphabet(0);
const BOTH = [0, 1].flatMap((vcpu) => alphabet(vcpu));
/** Schedules between two calls of `progress`. */
const PROGRESS_EVERY = 1000;
/** Entries and returns to user space come oftener than the rest, and mostly to one vCPU. */
const often = ({ op }: CheckEvent): boolean => op === "run" || op === "user";
const LETTERS: readonly (readonly CheckEvent[])[] = [0, 1].map((vcpu) =>
  alphabet(vcpu).flatMap((event): CheckEvent[] => (often(event) ? [event, event, event] : [event])),
);
const FIRST_VCPU = 0.75;

/** mulberry32: 32 bits of state, the same sequence everywhere. */
export function random(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** What an event makes of KVM_RUN: true it goes on, false it has ended, undefined as it was. */
function runningAfter({ op }: CheckEvent): boolean | undefined {
  if (op === "run" || op === "wrmsr") return true;
  return op === "user" ? false : undefined;
}

/** Events that do nothing where their vCPU is. */
function idle({ op }: CheckEvent, running: boolean): boolean {
  if (op === "user" || op === "vmcs") return !running;
  return running && (op === "ioctl" || op === "setMsrs" || op === "prctl");
}

/** Every schedule of so many events of two vCPUs, without those that do nothing; vCPU 0 is the first to do something. */
function* shortSchedules(hosts: readonly number[], length: number): Generator<Schedule> {
  function* after(events: readonly CheckEvent[], running: readonly boolean[]): Generator<readonly CheckEvent[]> {
    if (events.length === length) {
      yield events;
      return;
    }
    for (const event of events.length === 0 ? FIRST : BOTH) {
      const { vcpu } = event;
      if (idle(event, running[vcpu]!)) continue;
      yield* after([...events, event], running.with(vcpu, runningAfter(event) ?? running[vcpu]!));
    }
  }
  for (const host of hosts) for (const events of after([], [false, false])) yield { host, events };
}

/** How many schedules checkPolicy tries. */
export function countSchedules(options: CheckOptions = {}): number {
  const { hosts = [0, 1, 2, 3], exhaustive = EXHAUSTIVE, schedules = RANDOM } = options;
  const counts = new Map<string, number>();
  const count = (left: number, running: readonly boolean[], letters: readonly CheckEvent[]): number => {
    if (left === 0) return 1;
    const key = `${left} ${running.join(" ")} ${letters.length}`;
    const known = counts.get(key);
    if (known !== undefined) return known;
    let sum = 0;
    for (const event of letters) {
      const { vcpu } = event;
      if (idle(event, running[vcpu]!)) continue;
      sum += count(left - 1, running.with(vcpu, runningAfter(event) ?? running[vcpu]!), BOTH);
    }
    counts.set(key, sum);
    return sum;
  };
  let all = schedules;
  for (let length = 1; length <= exhaustive; length++) all += hosts.length * count(length, [false, false], FIRST);
  return all;
}

function* randomSchedules(hosts: readonly number[], options: CheckOptions): Generator<Schedule> {
  const next = random(options.seed ?? 1);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(next() * from.length)]!;
  const longest = options.length ?? 12;
  for (let i = 0; i < (options.schedules ?? RANDOM); i++) {
    const length = 1 + Math.floor(next() * longest);
    yield { host: pick(hosts), events: Array.from({ length }, () => pick(LETTERS[next() < FIRST_VCPU ? 0 : 1]!)) };
  }
}

/** Simpler things that an event may be replaced by. */
function simpler(event: CheckEvent): CheckEvent[] {
  const first: CheckEvent[] = event.vcpu === 0 ? [] : [{ ...event, vcpu: 0 }];
  if (event.op !== "wrmsr") return first;
  const run: CheckEvent = { op: "run", vcpu: event.vcpu };
  if (event.race === "none") return [...first, run];
  return [
    ...first,
    run,
    { ...event, race: "none" },
    ...(event.race === "migrate" ? [{ ...event, race: "preempt" as const }] : []),
  ];
}

function* smaller({ host, events }: Schedule): Generator<Schedule> {
  for (let size = events.length - 1; size >= 1; size--) {
    for (let at = 0; at + size <= events.length; at++) {
      yield { host, events: [...events.slice(0, at), ...events.slice(at + size)] };
    }
  }
  for (const less of [0, 1, 2].filter((value) => value < host)) yield { host: less, events };
  for (const [at, event] of events.entries()) {
    for (const other of simpler(event)) yield { host, events: events.with(at, other) };
  }
}

/** Makes a failing schedule as short and simple as removals and replacements can. */
export function shrink(schedule: Schedule, fails: (schedule: Schedule) => boolean): Schedule {
  let best = schedule;
  for (let found = true; found; ) {
    found = false;
    for (const candidate of smaller(best)) {
      if (!fails(candidate)) continue;
      best = candidate;
      found = true;
      break;
    }
  }
  return best;
}

/** Looks for schedules under which a policy leaks, loses the host's value or writes when it should not. */
export function checkPolicy(policy: Policy, options: CheckOptions = {}): CheckReport {
  const { hosts = [0, 1, 2, 3], exhaustive = EXHAUSTIVE } = options;
  const findings = new Map<ViolationKind, Finding>();
  const see = (schedule: Schedule): Violation[] => runSchedule(policy, schedule, options.policyOptions);
  let tried = 0;
  const look = (schedule: Schedule): void => {
    tried += 1;
    if (tried % PROGRESS_EVERY === 0) options.progress?.(tried);
    for (const { kind } of see(schedule)) {
      if (findings.has(kind)) continue;
      const small = shrink(schedule, (candidate) => see(candidate).some((violation) => violation.kind === kind));
      const violation = see(small).find((one) => one.kind === kind)!;
      findings.set(kind, {
        kind,
        schedule: small,
        violation,
        shortest: small.events.length <= exhaustive + 1,
        replayed: replaySchedule(policy, small, options.policyOptions).some((one) => one.kind === kind),
      });
    }
  };
  for (let length = 1; length <= exhaustive; length++) {
    for (const schedule of shortSchedules(hosts, length)) look(schedule);
  }
  for (const schedule of randomSchedules(hosts, options)) look(schedule);
  return { policy: policy.name, findings: [...findings.values()], tried, seed: options.seed ?? 1 };
}
