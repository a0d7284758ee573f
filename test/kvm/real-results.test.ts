// Records of a real /dev/kvm (fixtures/golden/kvm-real-results.json, Linux 6.18) replayed under the rules of 6.19.
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import {
  type CpuidEntry,
  KVM_CAP_DISABLE_QUIRKS2,
  KVM_CAP_MSR_PLATFORM_INFO,
  KVM_CAP_X86_USER_SPACE_MSR,
  KVM_MSR_FILTER_WRITE,
  Kvm,
} from "../../src/kvm/index.ts";
import { CODE, CPUID, Guest, type GuestOptions, type Mode, UD2 } from "./guest-builder.ts";

interface Record {
  readonly test: string;
  readonly [key: string]: unknown;
}

const PATH = new URL("../../fixtures/golden/kvm-real-results.json", import.meta.url);
const { results } = JSON.parse(readFileSync(PATH, "utf8")) as { results: readonly Record[] };

const PLATFORM_INFO = 0xce;
const MISC_FEATURES = 0x140;
const RDMSR = [0x0f, 0x32];
const WRMSR = [0x0f, 0x30];
const LOCK_CPUID = [0xf0, 0x0f, 0xa2];
const SENTINEL = 0x5a5an;
const KVM_X86_QUIRK_STUFF_FEATURE_MSRS = 1 << 8;
const MODES: Readonly<{ [name: string]: Mode }> = { real: "real", pm32: "protected", compat: "compat", long: "long" };
const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

function record(name: string, index = 0): Record {
  const found = results.filter((r) => r.test === name)[index];
  if (found === undefined) throw new Error(`no record ${name}`);
  return found;
}

/** Leaf 0 as the record's machine answered it. */
function leaf0(from: Record): CpuidEntry {
  const reg = (name: string): number => Number(from[name] as string);
  return {
    ...{ function: 0, index: 0, significantIndex: false },
    ...{ eax: reg("eax"), ebx: reg("ebx"), ecx: reg("ecx"), edx: reg("edx") },
  };
}

interface Setup {
  readonly mode: Mode;
  readonly cpl: 0 | 3;
  readonly insn: readonly number[];
  readonly regs: GuestOptions["regs"];
  readonly before?: (guest: Guest) => void;
}

/** Runs one instruction that ends at UD2 or in its own fault, and gives the fields that do not depend on addresses. */
function observe(setup: Setup): object {
  const { mode, cpl, insn, regs = {} } = setup;
  const guest = new Guest({ mode, cpl, kernel: "6.19", code: [...insn, ...UD2], regs });
  setup.before?.(guest);
  const exit = guest.vcpu.run();
  const vector = guest.haltedVector() ?? -1;
  const frame = guest.frame(vector);
  const after = guest.vcpu.getRegs();
  const past = frame.rip - CODE;
  const verdict = past === 0 ? (vector === 13 ? `#GP(${frame.error})` : "#UD") : "completed";
  return {
    verdict,
    exit: exit.reason.toUpperCase(),
    vec: vector,
    err: frame.error,
    past,
    cs: hex(frame.cs),
    flags: hex(frame.flags),
    eax: hex(after.rax & 0xffff_ffffn),
    ebx: hex(after.rbx & 0xffff_ffffn),
    ecx: hex(after.rcx & 0xffff_ffffn),
    edx: hex(after.rdx & 0xffff_ffffn),
    msr140_after: Number(guest.vcpu.getMsrs([MISC_FEATURES])[0]!.data),
  };
}

function expected(from: Record): object {
  const { verdict, exit, vec, err, cs, flags, eax, ebx, ecx, edx } = from;
  const past = Number(from.rip as string) - Number(from.insn as string);
  const msr140 = from.msr140_after === undefined ? 0 : from.msr140_after;
  return { verdict, exit, vec, err, past, cs, flags, eax, ebx, ecx, edx, msr140_after: msr140 };
}

const inMode = (name: string): Mode => {
  const mode = name.split(".").find((part) => part in MODES);
  if (mode === undefined) throw new Error(`no mode in ${name}`);
  return MODES[mode]!;
};

function replayCpuid(name: string): void {
  const from = record(name);
  const on = name.endsWith("fault1");
  const table = name.startsWith("cpuid_table");
  const lock = name.startsWith("lock_");
  const completes = from.verdict === "completed";
  const got = observe({
    mode: inMode(name),
    cpl: name.includes("cpl3") ? 3 : 0,
    insn: lock ? LOCK_CPUID : CPUID,
    regs: { rbx: SENTINEL, rflags: 0x46n },
    before: ({ vcpu }) => {
      if (completes) vcpu.setCpuid2([leaf0(from)]);
      if (!table) expect(vcpu.setMsrs([{ index: MISC_FEATURES, data: on ? 1n : 0n }])).toBe(from.host_set_0x140);
    },
  });
  expect(got).toEqual(expected(from));
}

function replayMsr(name: string): void {
  const from = record(name);
  const [, op, index] = name.split(".") as [string, string, string];
  const value = name.includes(".v1.") ? 1n : 0n;
  const got = observe({
    mode: inMode(name),
    cpl: name.includes("cpl3") ? 3 : 0,
    insn: op === "rdmsr" ? RDMSR : WRMSR,
    regs: { rax: value, rbx: SENTINEL, rcx: BigInt(index), rflags: 2n },
    before: ({ vm, vcpu }) => {
      if (name.includes("filtered")) vm.setMsrFilter(DENY_0x140);
      if (name.includes("cap_off")) vm.enableCap(KVM_CAP_MSR_PLATFORM_INFO, [0]);
      if (name.includes("pi31")) {
        expect(vcpu.setMsrs([{ index: PLATFORM_INFO, data: 1n << 31n }])).toBe(from.prep);
      }
    },
  });
  expect(got).toEqual(expected(from));
}

/** Denies what the records filter: writes of 0x140. */
const DENY_0x140 = {
  ranges: [{ flags: KVM_MSR_FILTER_WRITE, base: MISC_FEATURES, nmsrs: 1, bitmap: new Uint8Array(8) }],
};

/** An MSR access that ends in an exit to user space. */
function replayUserMsr(name: string): void {
  const from = record(name);
  const { msr_exit: want } = from as { msr_exit?: { idx: number; reason: number; data: number } } & Record;
  const [, op, index] = name.split(".") as [string, string, string];
  const insn = op === "rdmsr" ? RDMSR : WRMSR;
  const regs = { rcx: BigInt(index), rflags: 2n };
  const guest = new Guest({ mode: inMode(name), cpl: 0, kernel: "6.19", code: [...insn, ...UD2], regs });
  guest.vm.enableCap(KVM_CAP_X86_USER_SPACE_MSR, [7]);
  if (name.includes("filtered")) guest.vm.setMsrFilter(DENY_0x140);
  const exit = guest.vcpu.run();
  if (exit.reason !== "x86Rdmsr" && exit.reason !== "x86Wrmsr") throw new Error(exit.reason);
  expect({ exit: `X86_${exit.reason.slice(3).toUpperCase()}`, idx: exit.index, reason: exit.msrReason }).toEqual({
    exit: from.exit,
    idx: want!.idx,
    reason: want!.reason,
  });
}

describe("one instruction in a guest", () => {
  for (const { test: name } of results) {
    if (name.includes("user")) test(name, () => replayUserMsr(name));
    else if (/^(lock_)?cpuid/.test(name)) test(name, () => replayCpuid(name));
    else if (name.startsWith("guest.")) test(name, () => replayMsr(name));
  }
});

describe("ioctls", () => {
  const vcpuOf = (kvm = new Kvm()) => kvm.createVm().createVcpu(0);
  const read = (vcpu: ReturnType<typeof vcpuOf>, index: number) => vcpu.getMsrs([index])[0]!.data;

  test("msr_index_list", () => {
    const from = record("msr_index_list");
    const list = new Kvm().getMsrIndexList();
    expect([list.includes(PLATFORM_INFO), list.includes(MISC_FEATURES)].map(Number)).toEqual([
      from.has_0xCE,
      from.has_0x140,
    ]);
  });

  test("msr_feature_index_list", () => {
    expect(Number(new Kvm().getMsrFeatureIndexList().includes(PLATFORM_INFO))).toBe(
      record("msr_feature_index_list").has_0xCE,
    );
  });

  test("system_fd.KVM_GET_MSRS.0xCE", () => {
    const from = record("system_fd.KVM_GET_MSRS.0xCE");
    const got = new Kvm().getMsrs([PLATFORM_INFO]);
    expect([got.length, hex(got[0]!.data)]).toEqual([from.rc, from.value]);
  });

  for (const index of [PLATFORM_INFO, MISC_FEATURES]) {
    const name = `host.initial.0x${index.toString(16).toUpperCase()}`;
    test(name, () => {
      const from = record(name);
      const got = vcpuOf().getMsrs([index]);
      expect([got.length, hex(got[0]!.data)]).toEqual([from.get_rc, from.value]);
    });
  }

  const sets = results.filter((r) => r.test === "host.set.0xCE");
  test.each(sets.map((from) => [from.wrote, from] as const))("host.set.0xCE %s", (_wrote, from) => {
    const vcpu = vcpuOf();
    expect(vcpu.setMsrs([{ index: PLATFORM_INFO, data: BigInt(from.wrote as string) }])).toBe(from.set_rc);
    expect(hex(read(vcpu, PLATFORM_INFO))).toBe(from.readback);
  });

  test("host.order.clear_pi_while_faulting", () => {
    const from = record("host.order.clear_pi_while_faulting");
    const vcpu = vcpuOf();
    const set = (index: number, data: bigint) => vcpu.setMsrs([{ index, data }]);
    const got = [set(PLATFORM_INFO, 1n << 31n), set(MISC_FEATURES, 1n), set(PLATFORM_INFO, 0n)];
    expect(got).toEqual([from.set_pi31, from.set_140_1, from.clear_pi31]);
    expect([hex(read(vcpu, PLATFORM_INFO)), hex(read(vcpu, MISC_FEATURES))]).toEqual([from.pi, from.m140]);
  });

  test("host.after_run.0xCE", () => {
    const from = record("host.after_run.0xCE");
    const { vcpu } = new Guest({ mode: "protected", cpl: 0, kernel: "6.19", code: UD2 });
    vcpu.run();
    const set = (index: number, data: bigint) => vcpu.setMsrs([{ index, data }]);
    const value = read(vcpu, PLATFORM_INFO);
    expect({
      value: hex(value),
      set_same_rc: set(PLATFORM_INFO, value),
      toggle31_rc: set(PLATFORM_INFO, value ^ (1n << 31n)),
      set_other_bits_rc: set(PLATFORM_INFO, value | 0x1f00n),
      set_140_0_rc: set(MISC_FEATURES, 0n),
      set_140_1_rc: set(MISC_FEATURES, 1n),
    }).toEqual({
      value: from.value,
      set_same_rc: from.set_same_rc,
      toggle31_rc: from.toggle31_rc,
      set_other_bits_rc: from.set_other_bits_rc,
      set_140_0_rc: from.set_140_0_rc,
      set_140_1_rc: from.set_140_1_rc,
    });
  });

  test("host.quirk_stuff_feature_msrs_off", () => {
    const from = record("host.quirk_stuff_feature_msrs_off");
    const vm = new Kvm().createVm();
    vm.enableCap(KVM_CAP_DISABLE_QUIRKS2, [KVM_X86_QUIRK_STUFF_FEATURE_MSRS]);
    const got = vm.createVcpu(0).getMsrs([PLATFORM_INFO]);
    expect([got.length, hex(got[0]!.data)]).toEqual([from.get_rc, from.pi]);
  });
});

test("every record is replayed or has a reason not to be", () => {
  const handled = /^(lock_)?cpuid|^guest\.|^host\.|^msr_|^system_fd/;
  expect(results.filter((r) => !handled.test(r.test))).toEqual([]);
});

// The module of that machine takes any value of 0x140, from host and guest, and runs CPUID natively at 64-bit CPL 3
// (its own records were left out of the file). Upstream's rules are what is built.
describe("where the recorded module is not upstream", () => {
  for (const data of [2n, 3n, 1n << 32n, 0xffff_ffff_ffff_ffffn]) {
    test(`0x140 = ${hex(data)} is refused to host and guest`, () => {
      const guest = new Guest({
        mode: "protected",
        cpl: 0,
        kernel: "6.19",
        code: [...WRMSR, ...UD2],
        regs: { rax: data & 0xffff_ffffn, rcx: BigInt(MISC_FEATURES), rdx: data >> 32n },
      });
      expect(guest.vcpu.setMsrs([{ index: MISC_FEATURES, data }])).toBe(0);
      guest.vcpu.run();
      expect(guest.haltedVector()).toBe(13);
    });
  }

  test("CPUID at 64-bit CPL 3 faults with faulting on", () => {
    const guest = new Guest({ mode: "long", cpl: 3, kernel: "6.19", code: [...CPUID, ...UD2] });
    guest.vcpu.setMsrs([{ index: MISC_FEATURES, data: 1n }]);
    guest.vcpu.run();
    expect([guest.haltedVector(), guest.frame(13).rip]).toEqual([13, CODE]);
  });
});
