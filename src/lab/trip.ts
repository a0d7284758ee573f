import type { Host } from "../kvm/index.ts";
import type { Policy } from "../policy/index.ts";
import type { TraceEvent } from "../trace/index.ts";
import type { TimelineEvent } from "./html/timeline.ts";
import { type GuestSource, ScenarioRunner } from "./run-scenario.ts";
import type { Scenario } from "./scenario.ts";

function step(event: TraceEvent): TimelineEvent | undefined {
  switch (event.name) {
    case "kvm_entry":
      return { kind: "entry", text: "VM entry\nguest runs" };
    case "kvm_exit":
      return { kind: "exit", text: `VM exit\n${event.reasonName.replace("_INSTRUCTION", "")}` };
    case "host_msr":
      return {
        kind: event.write ? "wrmsr" : "rdmsr",
        text: `${event.write ? "WRMSR" : "RDMSR"} 140\n= ${event.value}`,
      };
    case "kvm_inj_exception":
      return { kind: "exit", text: "inject\n#GP(0)" };
    default:
      return undefined;
  }
}

/** A guest sets itself up in these. */
const FIRST_TRIPS = 3;

/** The steps of one round trip in the middle of a run, from KVM_RUN to its return to user space: the one with most steps. */
export function roundTrip(source: GuestSource, scenario: Scenario, policies: readonly Policy[]): TimelineEvent[] {
  const trips: TimelineEvent[][] = [];
  let trip = 0;
  const trace = (host: Host) => (event: TraceEvent) => {
    const now = host.ledger.counts.userspace_round_trips;
    if (now !== trip) trips.push([]);
    trip = now;
    const one = step(event);
    if (one !== undefined) trips.at(-1)?.push(one);
  };
  new ScenarioRunner(source, { policies, trace }).run({ ...scenario, vcpus: 1, vcpusPerVm: 1, hostCpus: 1 });
  const settled = trips.slice(FIRST_TRIPS, FIRST_TRIPS + Math.max(1, Math.ceil(trips.length / 8)));
  const found = settled.reduce((best, one) => (one.length > best.length ? one : best), settled[0] ?? []);
  return [{ kind: "user", text: "KVM_RUN" }, ...found, { kind: "user", text: "back in\nuser space" }];
}
