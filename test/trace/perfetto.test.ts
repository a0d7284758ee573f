// The file of a KVM run has the shape of the Trace Event Format, and its times add up to the ledger's.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { COST_MODELS, costModel } from "../../src/cost/index.ts";
import { perfettoTrace, runGuestUnderVmx } from "../../src/lab/index.ts";
import { parseImage } from "../../src/machine/index.ts";
import { type ChromeTraceEvent, PERFETTO_TRACKS, type PerfettoTrace } from "../../src/trace/index.ts";

const bytes = readFileSync(new URL("../../fixtures/guests/bin/app-start.bin", import.meta.url));
const model = COST_MODELS[0]!;

function run(policy: string) {
  let trace: PerfettoTrace | undefined;
  const result = runGuestUnderVmx({
    image: parseImage(bytes, { mode: "long" }),
    policy,
    kernel: "5.0",
    sink: (host) => {
      trace = perfettoTrace(host, model);
      return trace.sink;
    },
  });
  trace!.finish();
  const file = JSON.parse([...trace!.lines({ guest: "app-start" })].join("\n")) as {
    displayTimeUnit: string;
    otherData: Record<string, string>;
    traceEvents: ChromeTraceEvent[];
  };
  return { result, file };
}

const on = (events: readonly ChromeTraceEvent[], track: keyof typeof PERFETTO_TRACKS) =>
  events.filter((event) => event.ph === "X" && event.tid === PERFETTO_TRACKS[track]);
const total = (events: readonly ChromeTraceEvent[]) => events.reduce((sum, { dur }) => sum + dur! * 1000, 0);

describe.each(["upstream", "always-hardware"])("%s", (policy) => {
  const { result, file } = run(policy);
  const events = file.traceEvents;

  it("is an object of the Trace Event Format", () => {
    expect(file.displayTimeUnit).toBe("ns");
    expect(file.otherData.guest).toBe("app-start");
    for (const event of events) {
      expect(typeof event.name).toBe("string");
      expect(["X", "i", "C", "M"]).toContain(event.ph);
      expect(Number.isFinite(event.ts) && event.ts >= 0).toBe(true);
      expect(Number.isInteger(event.pid) && Number.isInteger(event.tid)).toBe(true);
      if (event.ph === "X") expect(event.dur).toBeGreaterThanOrEqual(0);
      if (event.ph === "i") expect(event.s).toBe("t");
      if (event.ph === "C") expect(typeof event.args?.value).toBe("number");
      if (event.ph === "M") expect(typeof event.args?.name).toBe("string");
    }
    const times = events.map(({ ts }) => ts);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  });

  it("has no key that the format does not have, and names each process and thread once", () => {
    const keys = { X: "args cat dur name ph pid tid ts", i: "args name ph pid s tid ts", C: "args name ph pid tid ts" };
    const named: string[] = [];
    const used = new Set<string>();
    for (const event of events) {
      const wanted = event.ph === "M" ? "args name ph pid tid ts" : keys[event.ph];
      expect(Object.keys(event).sort().join(" ")).toBe(wanted);
      for (const value of Object.values(event.args ?? {})) expect(["string", "number"]).toContain(typeof value);
      const { name, pid, tid } = event;
      if (event.ph === "M") named.push(`${name} ${pid}${name === "thread_name" ? ` ${tid}` : ""}`);
      else used.add(`thread_name ${pid} ${tid}`).add(`process_name ${pid}`);
    }
    expect(new Set(named).size).toBe(named.length);
    expect([...used].filter((track) => !named.includes(track))).toEqual([]);
  });

  it("has the processor in one place at a time: the guest, KVM or user space", () => {
    const places = (["guest", "kvm", "user"] as const).flatMap((track) => on(events, track));
    places.sort((a, b) => a.ts - b.ts || a.dur! - b.dur!);
    let end = 0;
    const overlaps = places.filter(({ ts, dur }) => {
      const over = ts < end;
      end = Math.max(end, ts + dur!);
      return over;
    });
    expect(overlaps).toEqual([]);
  });

  it("has every exit by its reason, and every switch of 0x140", () => {
    const kvm = on(events, "kvm").filter(({ name }) => name !== "KVM_RUN");
    const byName: Record<string, number> = {};
    for (const { name } of kvm) byName[name] = (byName[name] ?? 0) + 1;
    expect(byName).toEqual(result.exits);
    const msr = on(events, "msr");
    expect(msr.filter(({ name }) => name === "WRMSR")).toHaveLength(result.ledger.wrmsr.policy);
    expect(msr.filter(({ name }) => name === "RDMSR")).toHaveLength(result.ledger.rdmsr.policy);
    expect(events.filter(({ ph }) => ph === "C")).toHaveLength(result.ledger.wrmsr.policy);
  });

  it("has slices that follow each other on every track", () => {
    for (const track of ["guest", "kvm", "user", "msr"] as const) {
      let end = 0;
      for (const { ts, dur } of on(events, track)) {
        expect(ts).toBeGreaterThanOrEqual(end);
        end = ts + dur!;
      }
    }
  });

  it("gives the guest its instructions and user space its round trips, in cycles of the model", () => {
    const { instruction, userspace } = costModel(model.name);
    const faults = result.counts.hardware_faults + result.counts.injected_faults;
    const atMost = result.counts.instructions * instruction.cycles.high + faults * model.fault.cycles.high;
    expect(total(on(events, "guest"))).toBeGreaterThan(0.9 * result.counts.instructions * instruction.cycles.low);
    expect(total(on(events, "guest"))).toBeLessThanOrEqual(atMost * 1.001);
    // the first KVM_RUN comes from no exit, the last OUT ends the run
    const trips = result.counts.userspace_round_trips - 1;
    const middle = (userspace.cycles.low + userspace.cycles.high) / 2;
    expect(Math.abs(total(on(events, "user")) - trips * middle)).toBeLessThanOrEqual(2 * middle);
  });
});
