// Random VMCS contents: VM entry and the model of entryModel.ts come to the same end. VMX_RANDOM=5000000 runs that
// many, VMX_SEED=7 begins elsewhere.
import { describe, expect, it } from "vitest";
import * as c from "../../assembly/abi/controls.ts";
import { VmxResult } from "../../assembly/abi/run.ts";
import { STOP, VMX_STATE, VmxBit } from "../../assembly/abi/state.ts";
import { type Prediction, type Processor, predict } from "./entryModel.ts";
import {
  type Fields,
  identityEpt,
  longGuest,
  paeGuest,
  protectedGuest,
  realGuest,
  vm86Guest,
  writeFields,
} from "./guests.ts";
import { field, Vmx } from "./harness.ts";
import { u32 } from "./running.ts";

const CASES = Number(process.env.VMX_RANDOM ?? 8_000);
const SEED = Number(process.env.VMX_SEED ?? 0x2545f491);

/** A long-mode guest with every control of one kind. */
const with_ = (secondary: number, more: Fields = {}): Fields => ({
  ...longGuest(),
  PRIMARY_PROC_BASED_CONTROLS:
    longGuest().PRIMARY_PROC_BASED_CONTROLS! | u32(c.PRIMARY_ACTIVATE_SECONDARY_CONTROLS, c.PRIMARY_USE_TPR_SHADOW),
  SECONDARY_PROC_BASED_CONTROLS: u32(secondary),
  VIRTUAL_APIC_ADDRESS: 0xb000n,
  APIC_ACCESS_ADDRESS: 0xc000n,
  TPR_THRESHOLD: 0n,
  ...more,
});
const eptGuest = (): Fields =>
  with_(
    c.SECONDARY_ENABLE_EPT |
      c.SECONDARY_ENABLE_PML |
      c.SECONDARY_ENABLE_VM_FUNCTIONS |
      c.SECONDARY_MODE_BASED_EXECUTE_CONTROL_FOR_EPT,
    { EPT_POINTER: 0x505en, PML_ADDRESS: 0xd000n, EPTP_LIST_ADDRESS: 0xe000n, VM_FUNCTION_CONTROLS: 1n },
  );
const apicGuest = (): Fields => with_(c.SECONDARY_VIRTUALIZE_APIC_ACCESSES | c.SECONDARY_VMCS_SHADOWING);
const interruptGuest = (): Fields => {
  const guest = with_(
    c.SECONDARY_VIRTUALIZE_X2APIC_MODE |
      c.SECONDARY_APIC_REGISTER_VIRTUALIZATION |
      c.SECONDARY_VIRTUAL_INTERRUPT_DELIVERY,
  );
  guest.PIN_BASED_CONTROLS! |= u32(c.PIN_EXTERNAL_INTERRUPT_EXITING, c.PIN_PROCESS_POSTED_INTERRUPTS);
  guest.PRIMARY_EXIT_CONTROLS! |= u32(c.EXIT_ACKNOWLEDGE_INTERRUPT_ON_EXIT);
  return guest;
};
const BASES = [longGuest, protectedGuest, paeGuest, vm86Guest, realGuest, eptGuest, apicGuest, interruptGuest];
const VMX_FIELDS = [
  "POSTED_INTERRUPT_NOTIFICATION_VECTOR",
  "POSTED_INTERRUPT_DESCRIPTOR_ADDRESS",
  "VMREAD_BITMAP_ADDRESS",
  "VMWRITE_BITMAP_ADDRESS",
  "GUEST_INTERRUPT_STATUS",
  "PML_INDEX",
  "PLE_GAP",
  "XSS_EXITING_BITMAP",
];

/** xorshift32 */
function generator(seed: number): (below: number) => number {
  let x = seed | 0;
  return (below) => {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    return (x >>> 0) % below;
  };
}

const PATTERNS = [0n, 1n, 2n, 0x10n, 0x1000n, 0xffffn, 0x7fff_ffff_ffffn, 0x8000_0000_0000n, 0xffff_8000_0000_0000n];

function randomise(fields: Fields, names: readonly string[], next: (below: number) => number): Fields {
  const out = { ...fields };
  for (let n = 1 + next(4); n > 0; n--) {
    const name = names[next(names.length)]!;
    const { width } = field(name);
    const size = width || 64;
    const value = out[name] ?? 0n;
    const how = next(8);
    if (how < 5) out[name] = value ^ (1n << BigInt(next(size)));
    else if (how < 7) out[name] = BigInt.asUintN(size, PATTERNS[next(PATTERNS.length)]!);
    else
      out[name] = BigInt.asUintN(
        size,
        (BigInt(next(0x10000)) << 48n) | (BigInt(next(0x10000)) << 16n) | BigInt(next(0x10000)),
      );
  }
  // lists are walked in entry.test.ts
  out.ENTRY_MSR_LOAD_COUNT = 0n;
  // VM entry writes VPPR: not into the VMCS
  if (out.VIRTUAL_APIC_ADDRESS === 0x2000n) out.VIRTUAL_APIC_ADDRESS = 0xb000n;
  return out;
}

describe("random VMCS contents", () => {
  it(`${CASES} cases end as the model says`, { timeout: 3_600_000 }, () => {
    const vmx = new Vmx();
    vmx.fill(0x3000n, 0x10000);
    vmx.restart();
    identityEpt(vmx);
    vmx.select();
    const msrs = new Map<number, bigint>();
    const cpu: Processor = {
      msr: (index) => {
        let value = msrs.get(index);
        if (value === undefined) {
          value = BigInt.asUintN(64, vmx.msr(index) as bigint);
          msrs.set(index, value);
        }
        return value;
      },
      efer: 0xd01n,
      debugctl: 3n,
      read32: (at) => {
        const host = vmx.core.physToHost(at);
        return host ? vmx.read32(host) : 0xffffffff;
      },
      read64: (at) => {
        const host = vmx.core.physToHost(at);
        return host ? vmx.read64(host) : 0xffff_ffff_ffff_ffffn;
      },
      currentVmcs: vmx.vmcs,
    };
    const bases = BASES;
    const names = [...new Set(bases.flatMap((base) => Object.keys(base())))].filter((name) => !field(name).readOnly);
    names.push(
      ...VMX_FIELDS,
      "ENTRY_EXCEPTION_ERROR_CODE",
      "ENTRY_INSTRUCTION_LENGTH",
      "EXIT_MSR_STORE_ADDRESS",
      "MSR_BITMAP_ADDRESS",
    );
    const next = generator(SEED);
    const zero: Fields = Object.fromEntries(names.map((name) => [name, 0n]));
    const ends = new Map<string, number>();
    let present: Fields = zero;
    let launched = false;
    const restart = (): void => {
      vmx.restart();
      vmx.select();
      present = zero;
      launched = false;
    };
    restart();
    for (let i = 0; i < CASES; i++) {
      // sometimes a few more changes of the same VMCS, so that what VM entry keeps from the last one is put to the test
      const base = i > 0 && next(3) !== 0 ? present : { ...zero, ...bases[next(bases.length)]!() };
      const fields = randomise(base, names, next);
      writeFields(vmx, Object.fromEntries(Object.entries(fields).filter(([name, x]) => x !== present[name])));
      present = fields;
      const want = predict(fields, cpu);
      expect(enter(vmx, launched), `case ${i}: ${show(fields)}`).toEqual(want);
      const key = want === "enters" ? want : "error" in want ? `error ${want.error}` : `late ${want.qualification}`;
      ends.set(key, (ends.get(key) ?? 0) + 1);
      if (want !== "enters") continue;
      if (fields.EXIT_MSR_STORE_COUNT || fields.EXIT_MSR_LOAD_COUNT) restart();
      else {
        // INIT makes every guest exit; the saved state is where the next case starts
        vmx.core.reset(1);
        expect(vmx.runToExit().reason).toBe(3);
        launched = true;
        present = Object.fromEntries(names.map((name) => [name, vmx.read(name)]));
      }
    }
    expect([...ends.keys()].length).toBeGreaterThanOrEqual(5);
  });
});

function show(fields: Fields): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${value.toString(16)}`)
    .join(" ");
}

function enter(vmx: Vmx, launched: boolean): Prediction {
  const result = launched ? vmx.core.vmresume() : vmx.core.vmlaunch();
  if (result === VmxResult.FailValid) return { error: vmx.outcome(result).error as 7 | 8 };
  expect(result).toBe(VmxResult.Succeed);
  if (vmx.read32(VMX_STATE) & VmxBit.NonRoot) return "enters";
  vmx.write32(STOP, 0);
  expect(vmx.read("EXIT_REASON")).toBe(0x80000021n);
  return { qualification: vmx.read("EXIT_QUALIFICATION") };
}
