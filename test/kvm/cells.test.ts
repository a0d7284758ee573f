// Every cell of the policy tables, run by the processor: what the hardware holds before and after, how many WRMSRs the
// load took, what a CPUID does, at CPL 0 and 3 and in three modes.
import { describe, expect, test } from "vitest";
import { exitReasonName } from "../../src/kvm/index.ts";
import { COLUMNS, type Column, READS, STATICS, THREAD, TOGGLES } from "../policy/tables.ts";
import { CODE, CODE3, CPUID, Guest, type Mode, UD2, wrmsr } from "./guest-builder.ts";

const MODES: readonly Mode[] = ["protected", "compat", "long"];
const LEVELS = [0, 3] as const;
const MSR_MISC_FEATURES_ENABLES = 0x140;
const GP = 13;
const UD = 6;

interface Cell {
  readonly before: bigint;
  readonly after: bigint;
  readonly writes: number;
  readonly reads: number;
  readonly outcome: string;
  readonly hostAfter: bigint;
  readonly loads: number;
}

/** One load: the guest starts with `from`, writes `to` if there is one, and executes a CPUID. */
function cell(mode: Mode, cpl: 0 | 3, policy: Column, host: bigint, from: bigint, to: bigint | undefined): Cell {
  const guest = new Guest({
    mode,
    cpl,
    policy,
    code: [],
    startIn: to === undefined ? "here" : "cpl0",
    hostOptions: { hostValue: Number(host) },
  });
  // CPUID completes onto UD2, so that both outcomes end in a handler of the guest
  const tail = [...CPUID, ...UD2];
  if (to === undefined) guest.write(CODE, tail);
  else if (cpl === 0) guest.write(CODE, [...wrmsr(MSR_MISC_FEATURES_ENABLES, to), ...tail]);
  else {
    guest.write(CODE, [...wrmsr(MSR_MISC_FEATURES_ENABLES, to), ...guest.iret]);
    guest.write(CODE3, tail);
  }
  const { vcpu, kvm } = guest;
  expect(vcpu.setMsrs([{ index: MSR_MISC_FEATURES_ENABLES, data: from }])).toBe(1);
  const { ledger, cpu } = kvm.host;
  expect(cpu.peekMiscFeatures()).toBe(host);
  ledger.restart();
  // hardware's value at every exit: the first is before any WRMSR, the last after it
  const held: bigint[] = [];
  kvm.host.onSchedulePoint = (point) => {
    if (point === "handle_exit" || point === "handle_exit_done") held.push(cpu.peekMiscFeatures());
  };
  expect(vcpu.run()).toEqual({ reason: "hlt" });
  kvm.host.onSchedulePoint = undefined;
  const vector = guest.haltedVector();
  expect([GP, UD]).toContain(vector);
  const cpuidExits = [...ledger.exitsByReason].find(([reason]) => exitReasonName(reason) === "CPUID")?.[1] ?? 0;
  const wanted = vcpu.getMsrs([MSR_MISC_FEATURES_ENABLES])[0]!.data & 1n;
  const faulted = vector === GP;
  if (faulted) expect(guest.frame(GP).error).toBe(0);
  const outcome = faulted ? (cpuidExits > 0 ? "K" : wanted ? "H" : "L") : cpuidExits > 0 ? "C" : "?";
  return {
    before: held[0]!,
    after: held.at(-1)!,
    writes: ledger.wrmsr.policy,
    reads: ledger.rdmsr.policy,
    outcome,
    hostAfter: cpu.peekMiscFeatures(),
    loads: ledger.counts.entering_loads,
  };
}

/** A CPUID at CPL 0 never faults: it exits and completes. */
const outcomeAt = (cpl: number, letter: string): string => (cpl === 0 ? "C" : letter);

for (const mode of MODES) {
  for (const cpl of LEVELS) {
    describe(`${mode} mode, CPL ${cpl}, guest WRMSR while loaded`, () => {
      for (const { host, from, to, cells } of TOGGLES) {
        for (const policy of COLUMNS) {
          test(`host ${host}, guest ${from}->${to}, ${policy}: ${cells[policy]}`, () => {
            const [held, writes, letter] = cells[policy].split(" / ") as [string, string, string];
            const got = cell(mode, cpl, policy, host, from, to);
            expect(`${got.before}->${got.after} / ${got.writes} / ${got.outcome}`).toBe(
              `${held} / ${writes} / ${outcomeAt(cpl, letter)}`,
            );
            expect(got.hostAfter).toBe(host);
            expect(got.loads).toBe(1);
          });
        }
      }
    });

    describe(`${mode} mode, CPL ${cpl}, static bits`, () => {
      for (const { host, guest, cells } of STATICS) {
        for (const policy of COLUMNS) {
          test(`host ${host}, guest ${guest}, ${policy}: ${cells[policy]}`, () => {
            const got = cell(mode, cpl, policy, host, guest, undefined);
            expect(`${got.after}/${got.writes}`).toBe(cells[policy]);
            expect(got.reads).toBe(READS[policy]);
            expect(got.hostAfter).toBe(host);
          });
        }
      }
    });

    describe(`${mode} mode, CPL ${cpl}, the thread's truth table`, () => {
      for (const { host, guest, cells } of THREAD) {
        for (const policy of COLUMNS) {
          test(`host ${host}, guest ${guest}, ${policy}: ${cells[policy]}`, () => {
            const got = cell(mode, cpl, policy, host, guest, undefined);
            expect(got.outcome).toBe(outcomeAt(cpl, cells[policy]));
          });
        }
      }
    });
  }
}

describe("the leak before the guest turns faulting on", () => {
  for (const mode of MODES) {
    test(`${mode} mode, host 1, guest 0, upstream: wrong #GP`, () => {
      expect(cell(mode, 3, "upstream", 1n, 0n, undefined).outcome).toBe("L");
    });
  }
});
