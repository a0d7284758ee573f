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
  /** Longest random schedule. Default 12. */
  readonly length?: number;
  readonly policyOptions?: Partial<PolicyOptions>;
}

/** A way to make a policy go wrong. */
export interface Finding {
  readonly kind: ViolationKind;
  readonly schedule: Schedule;
  readonly violation: Violation;
  /** No schedule of fewer events of one vCPU shows it: all of them were tried. */
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

/** Every schedule of one vCPU up to this length is tried. */
const EXHAUSTIVE = 3;
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

function* shortSchedules(hosts: readonly number[], length: number): Generator<Schedule> {
  const letters = alphabet(0);
  for (const host of hosts) {
    const total = letters.length ** length;
    for (let n = 0; n < total; n++) {
      const events: CheckEvent[] = [];
      for (let i = 0, rest = n; i < length; i++, rest = Math.floor(rest / letters.length)) {
        events.push(letters[rest % letters.length]!);
      }
      yield { host, events };
    }
  }
}

function* randomSchedules(hosts: readonly number[], options: CheckOptions): Generator<Schedule> {
  const next = random(options.seed ?? 1);
  const pick = <T>(from: readonly T[]): T => from[Math.floor(next() * from.length)]!;
  const longest = options.length ?? 12;
  for (let i = 0; i < (options.schedules ?? 5_000); i++) {
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
  const hosts = options.hosts ?? [0, 1, 2, 3];
  const findings = new Map<ViolationKind, Finding>();
  const see = (schedule: Schedule): Violation[] => runSchedule(policy, schedule, options.policyOptions);
  let tried = 0;
  const look = (schedule: Schedule, exhaustive: boolean): void => {
    tried += 1;
    for (const { kind } of see(schedule)) {
      if (findings.has(kind)) continue;
      const small = shrink(schedule, (candidate) => see(candidate).some((violation) => violation.kind === kind));
      const violation = see(small).find((one) => one.kind === kind)!;
      findings.set(kind, {
        kind,
        schedule: small,
        violation,
        shortest: exhaustive || small.events.length <= EXHAUSTIVE,
        replayed: replaySchedule(policy, small, options.policyOptions).some((one) => one.kind === kind),
      });
    }
  };
  for (let length = 1; length <= EXHAUSTIVE; length++) {
    for (const schedule of shortSchedules(hosts, length)) look(schedule, true);
  }
  for (const schedule of randomSchedules(hosts, options)) look(schedule, false);
  return { policy: policy.name, findings: [...findings.values()], tried, seed: options.seed ?? 1 };
}
