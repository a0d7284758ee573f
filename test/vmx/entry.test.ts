// Every row of vm-entry-checks.csv: the failure that its last column names, and near misses that enter.
import { beforeEach, describe, expect, it } from "vitest";
import { VmxResult } from "../../assembly/abi/run.ts";
import { RIP } from "../../assembly/abi/state.ts";
import { table } from "../../scripts/vmx-tables.ts";
import { type Case, notReachable, rowTests } from "./entryRows.ts";
import {
  HOST_RIP,
  identityEpt,
  longGuest,
  paeGuest,
  protectedGuest,
  realGuest,
  vm86Guest,
  writeFields,
} from "./guests.ts";
import { type Entry, Vmx } from "./harness.ts";

const vmx = new Vmx();
beforeEach(() => {
  vmx.fill(0x3000n, 0x10000);
  vmx.restart();
  identityEpt(vmx);
  vmx.select();
});

function attempt(test: Case): Entry {
  writeFields(vmx, { ...(test.base ?? longGuest)(), ...test.set });
  test.before?.(vmx);
  return vmx.enter(!test.resume);
}

/** What the on_failure column asks for. */
function failure(text: string, qualification?: bigint): Partial<Entry> {
  if (text === "#UD") return { result: VmxResult.Fault, vector: 6 };
  if (text === "#GP(0)") return { result: VmxResult.Fault, vector: 13 };
  if (text.startsWith("VMfailInvalid")) return { result: VmxResult.FailInvalid };
  const error = /^VMfailValid error (\d+)/.exec(text);
  if (error) return { result: VmxResult.FailValid, error: Number(error[1]) };
  const late = /reason 0x([0-9a-f]+), qualification (\d|=)/i.exec(text);
  if (late) {
    return {
      result: VmxResult.Succeed,
      reason: Number.parseInt(late[1]!, 16),
      qualification: qualification ?? BigInt(late[2] === "=" ? 1 : late[2]!),
    };
  }
  if (text.startsWith("error 7 or 8")) return { result: VmxResult.FailValid };
  throw new Error(`what is "${text}"?`);
}

const LATE_QUALIFICATION: Record<number, bigint> = { 105: 0n };

const rows = table("vm-entry-checks").map((row) => ({
  n: Number(row.n),
  title: `${row.field}: ${row.rule}`,
  onFailure: row.on_failure!,
}));

describe("the guests of these tests enter", () => {
  it.each(Object.entries({ longGuest, protectedGuest, paeGuest, vm86Guest, realGuest }))("%s", (_, base) => {
    expect(attempt({ title: "", base })).toEqual({ result: VmxResult.Succeed, entered: true });
  });
});

describe.each(rows)("row $n, $title", ({ n, onFailure }) => {
  const tests = rowTests[n];
  if (!tests) {
    it("is not reachable", () => expect(notReachable[n]).toBeTruthy());
    return;
  }
  it.each(tests.bad)("fails: $title", (test) => {
    const got = attempt(test);
    expect(got.entered).toBe(false);
    expect(got).toMatchObject(failure(onFailure, test.qualification ?? LATE_QUALIFICATION[n]));
    if (got.error !== undefined && onFailure.startsWith("error 7 or 8")) expect([7, 8]).toContain(got.error);
    if (got.reason !== undefined) expect(vmx.read64(RIP)).toBe(test.set?.HOST_RIP ?? HOST_RIP);
  });
  if (tests.good?.length) {
    it.each(tests.good)("enters: $title", (test) => {
      expect(attempt(test)).toEqual({ result: VmxResult.Succeed, entered: true });
    });
  }
});
