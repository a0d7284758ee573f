// Every exit reason of exit-reasons.csv that this processor has, entered by the TypeScript host and by guest code in root
// operation: the exit leaves the same VMCS, field by field.
import { beforeEach, describe, expect, it } from "vitest";
import { RunCode } from "../../assembly/abi/run.ts";
import { CR3, RIP, STOP } from "../../assembly/abi/state.ts";
import { fields, table } from "../../scripts/vmx-tables.ts";
import { type ExitCase, exitTable, NO_REGISTERS, unreachable } from "./exitTable.ts";
import { longGuest, writeFields } from "./guests.ts";
import { GDT, IDT, Running, STACK, START, VMCALL } from "./running.ts";

const vmx = new Running();
beforeEach(() => {
  vmx.core.raiseInterrupt(-1);
  vmx.fresh();
});

const rows = table("exit-reasons")
  .filter((row) => row.name !== "RESERVED")
  .map((row) => ({ name: row.name!, reason: Number(row.reason) }));
const ROOT_CODE = 0x6000n;
const HOST_CODE = 0x6800n;
const VMLAUNCH = [0x0f, 0x01, 0xc2];
const HLT = 0xf4;

/** Root operation with everything ready for VMLAUNCH; the host area leads to HLT. */
function prepare({ code, set, before }: ExitCase): void {
  writeFields(vmx, {
    ...longGuest(),
    GUEST_IDTR_BASE: IDT,
    GUEST_GDTR_BASE: GDT,
    GUEST_GDTR_LIMIT: 0x1fn,
    GUEST_RSP: STACK,
    ...set,
    HOST_CR3: 0x4000n,
    HOST_RIP: HOST_CODE,
  });
  before?.(vmx);
  vmx.code([...code, ...VMCALL]);
  vmx.code([...VMLAUNCH, HLT], ROOT_CODE);
  vmx.code([HLT], HOST_CODE);
}
function registers({ gprs }: ExitCase): void {
  for (const [index, value] of Object.entries({ ...NO_REGISTERS, ...gprs })) vmx.setGpr(Number(index), value);
}
/** All fields but those that no VM exit touches. */
const contents = () => Object.fromEntries(fields().flatMap((f) => (f.supported ? [[f.name, vmx.read(f.name)]] : [])));

function byHost(test: ExitCase) {
  prepare(test);
  expect(vmx.enter()).toMatchObject({ entered: true });
  registers(test);
  test.event?.(vmx);
  vmx.runToExit();
  return contents();
}

function byGuest(test: ExitCase) {
  prepare(test);
  vmx.write64(CR3, 0x4000n);
  vmx.write64(RIP, ROOT_CODE);
  vmx.core.stateChanged();
  registers(test);
  // INIT is blocked in root operation: it comes after the entry
  expect(vmx.core.run(1n, 1000n)).toBe(RunCode.Instructions);
  test.event?.(vmx);
  expect(vmx.core.run(100n, 1000n)).toBe(RunCode.Halt);
  expect(vmx.read64(RIP)).toBe(HOST_CODE + 1n);
  expect(vmx.read32(STOP)).toBe(0);
  return contents();
}

describe.each(rows)("$reason $name", ({ name, reason }) => {
  const test = exitTable[name];
  if (!test) {
    it("is not in reach", () => expect(unreachable[name]).toBeTruthy());
    return;
  }
  it("exits", () => {
    const got = byHost(test);
    expect(got.EXIT_REASON).toBe(BigInt(reason));
    expect(got.EXIT_QUALIFICATION).toBe(test.qualification ?? 0n);
  });
  it("leaves the same VMCS when guest code made the entry", () => {
    const one = byHost(test);
    vmx.core.raiseInterrupt(-1);
    vmx.fresh();
    expect(byGuest(test)).toEqual(one);
  });
});

it("what is said to be out of reach exists in the table", () => {
  const names = new Set(rows.map((row) => row.name));
  expect([...Object.keys(exitTable), ...Object.keys(unreachable)].filter((name) => !names.has(name))).toEqual([]);
  expect(Object.keys(exitTable).filter((name) => name in unreachable)).toEqual([]);
  expect(START).toBe(0x7000n);
});
