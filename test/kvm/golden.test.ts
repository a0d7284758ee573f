// The VMM programs of fixtures/kvm/programs.txt on wasm-vmx against what /dev/kvm said (fixtures/kvm/golden.json).
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parsePrograms, runProgram } from "./programs.ts";

const file = (name: string): string => readFileSync(new URL(`../../fixtures/kvm/${name}`, import.meta.url), "utf8");
const programs = parsePrograms(file("programs.txt"));
const golden = JSON.parse(file("golden.json")) as { [program: string]: string[] };

interface Difference {
  /** What KVM on VMX says instead of the recorded line, by the recorded line. Several lines are parted by "|". */
  readonly lines: { readonly [recorded: string]: string };
  readonly why: string;
  /** All lines of that text are different, not only the first. */
  readonly every?: boolean;
  /** The last line of that text is different, not the first. */
  readonly last?: boolean;
}

const EMULATOR_DR7 =
  "the recorded module steps in its emulator, which leaves dr7 of the run page; handle_exception fills it";
const NO_INT3 = "the recorded module's emulator has no INT3; on VMX the processor delivers it, or it exits as #BP";
const step = (...pcs: number[]): { [line: string]: string } =>
  Object.fromEntries(
    pcs.map((pc) => {
      const line = `debug exception=1 pc=${pc.toString(16)} dr6=ffff4ff0 dr7=`;
      return [`${line}0`, `${line}400`];
    }),
  );

const NO_WATCHPOINTS = "the recorded module's emulator checks breakpoints on instructions only, not on data";
const NOT_IN_SERVICE = "the recorded module does not show a local APIC's interrupts in service while they are served";
const inService = (before: string, isr: string, after: string): { [line: string]: string } => ({
  [`lapic ${before}0${after}`]: `lapic ${before}${isr}${after}`,
});
const broke = (dr7: string, ...pcs: number[]): { [line: string]: string } =>
  Object.fromEntries(
    pcs.map((pc) => {
      const line = `debug exception=1 pc=${pc.toString(16)} dr6=ffff0ff1 dr7=`;
      return [`${line}0`, `${line}${dr7}`];
    }),
  );

/** Programs whose recording is not what KVM on VMX does, and why. */
const DIFFERENCES: { readonly [program: string]: Difference } = {
  "interrupt-window": {
    lines: { hlt: "irq window ready=1 if=1", "regs rip=1008": "regs rip=1007" },
    why: "the recorded module runs real mode in its emulator, which does not stop for the window before HLT",
  },
  "window-with-nmi": {
    lines: { hlt: "irq window ready=1 if=1" },
    why: "the recorded module runs real mode in its emulator, which does not stop for the window before HLT",
  },
  "window-if-clear": {
    lines: { hlt: "irq window ready=1 if=1", "regs rip=1007": "regs rip=1004" },
    every: true,
    why: "the recorded module runs real mode in its emulator, which does not stop for the window before HLT",
  },
  "nmi-masked-until-iret": {
    lines: { hlt: "io out port=80 size=1 count=1 data=6e|io in port=81 size=1 count=1|hlt" },
    why: "the recorded module runs real mode in its emulator, which reaches HLT before the pending NMI",
  },
  cr8: {
    lines: { hlt: "set tpr cr8=2|hlt" },
    why: "the recorded module emulates MOV CR8; handle_cr of VMX exits to user space when the priority falls",
  },
  "single-step": { lines: step(0x1001, 0x1002, 0x1004), why: EMULATOR_DR7 },
  "single-step-off": { lines: step(0x1001), why: EMULATOR_DR7 },
  "single-step-over-mmio-and-port": {
    lines: {
      ...step(0x1002),
      "debug exception=1 pc=1009 dr6=ffff4ff0 dr7=0": "debug exception=1 pc=1008 dr6=ffff4ff0 dr7=0",
    },
    why: `${EMULATOR_DR7}; and OUT is complete_fast_pio_out on VMX, which does not lose the step`,
  },
  "single-step-hlt": {
    lines: { "debug exception=1 pc=1001 dr6=ffff4ff0 dr7=0": "hlt" },
    why: "kvm_emulate_halt of VMX gives KVM_EXIT_HLT whether or not the instruction was stepped",
  },
  "mmio-lods-scas-cmps": {
    lines: {
      "mmio read addr=d0000004 len=4 rip=1001 rcx=0 rsp=8000": "mmio read addr=d0000100 len=4 rip=1001 rcx=0 rsp=8000",
      "mmio read addr=d0000100 len=4 rip=1001 rcx=0 rsp=8000": "mmio read addr=d0000004 len=4 rip=1001 rcx=0 rsp=8000",
    },
    why: "KVM's emulator reads CMPS's DS:RSI first, the processor ES:RDI; here the processor runs the instruction",
  },
  "hardware-breakpoint": { lines: broke("402", 0x1002), why: EMULATOR_DR7 },
  "hardware-breakpoint-long": { lines: broke("402", 0x1002), why: EMULATOR_DR7, every: true },
  "hardware-breakpoint-guest-writes": { lines: broke("402", 0x1016), why: EMULATOR_DR7 },
  "hardware-breakpoint-and-step": {
    lines: {
      "debug exception=1 pc=1001 dr6=ffff4ff0 dr7=0": "debug exception=1 pc=1001 dr6=ffff4ff0 dr7=402",
      "debug exception=1 pc=1002 dr6=ffff4ff0 dr7=0": "debug exception=1 pc=1002 dr6=ffff4ff0 dr7=402",
      ...broke("402", 0x1002),
    },
    why: EMULATOR_DR7,
  },
  "hardware-watchpoint": {
    lines: {
      hlt: "debug exception=1 pc=100c dr6=ffff0ff1 dr7=d0402",
      "regs rip=100e": "regs rip=100c",
      "error EINTR reason=10": "hlt",
    },
    why: NO_WATCHPOINTS,
  },
  "hardware-watchpoint-long": {
    lines: {
      hlt: "debug exception=1 pc=100c dr6=ffff0ff1 dr7=d0402",
      "regs rip=100f": "regs rip=100c",
      "error EINTR reason=10": "hlt",
    },
    why: NO_WATCHPOINTS,
  },
  "hardware-watchpoint-read": {
    lines: {
      hlt: "debug exception=1 pc=1007 dr6=ffff0ff1 dr7=f0402",
      "regs rip=100a": "regs rip=1007",
      "error EINTR reason=10": "hlt",
    },
    why: NO_WATCHPOINTS,
  },
  "guest-watchpoint": {
    lines: {
      "io out port=82 size=1 count=1 data=aa":
        "io out port=80 size=1 count=1 data=f1|io out port=82 size=1 count=1 data=aa",
      "regs rcx=0": "regs rcx=ffff0ff1",
      "debugregs 3000 dr6=ffff0ff0 dr7=70402": "debugregs 3000 dr6=ffff0ff1 dr7=400",
    },
    why: NO_WATCHPOINTS,
  },
  "guest-breakpoint-code": {
    lines: { "internal error suberror=1": "io out port=82 size=1 count=1 data=aa|hlt" },
    why: "the recorded module's emulator has no IRET in protected mode",
  },
  "hardware-gd": {
    lines: {
      "io out port=82 size=1 count=1 data=aa": "debug exception=1 pc=1005 dr6=ffff2ff0 dr7=2402",
      "regs rip=100c": "regs rip=1005",
      hlt: "io out port=82 size=1 count=1 data=aa|hlt",
    },
    why: "the recorded module's emulator asks the guest's own DR7 for GD; handle_dr of VMX asks the one that acts",
  },
  "debug-blockirq": { lines: step(0x1001), why: EMULATOR_DR7 },
  "halt-wakes-by-nmi": {
    lines: { "regs rip=1005": "regs rip=1003" },
    why: "the recorded module emulates OUT, which advances RIP at once; complete_fast_pio_out of VMX does it at the next run",
  },
  "x2apic-self-ipi": { lines: inService("0x100=0 0x120=", "10000", " 0x200=0 0x230=0"), why: NOT_IN_SERVICE },
  "xapic-ipi": { lines: inService("0x300=4041 0x310=0 0x120=", "2", " 0x220=0"), why: NOT_IN_SERVICE },
  "ioapic-level": {
    lines: { "io out port=81 size=1 count=1 data=6c": "error EINTR reason=10" },
    last: true,
    why: `${NOT_IN_SERVICE}, and a level that has ended comes once more`,
  },
  "x2apic-tpr": {
    lines: {
      "io out port=80 size=1 count=1 data=02": "io out port=81 size=1 count=1 data=35",
      "io out port=81 size=1 count=1 data=35": "io out port=80 size=1 count=1 data=02",
      "page ready=1 if=0 cr8=4 apic_base=fee00d00": "page ready=1 if=1 cr8=4 apic_base=fee00d00",
    },
    why: "the recorded module's emulator runs on to the next exit before it takes the interrupt that a lower TPR lets in",
  },
  "cpuid-features": {
    lines: { "regs rax=1007efb rbx=0 rcx=0 rdx=0": "regs rax=2 rbx=0 rcx=0 rdx=0" },
    why: "of KVM's paravirtual features only what needs no interface is built: KVM_FEATURE_NOP_IO_DELAY",
  },
  "software-breakpoint": {
    lines: { "internal error suberror=1": "debug exception=3 pc=1002 dr6=0 dr7=0" },
    why: NO_INT3,
  },
  "software-breakpoint-not-asked-for": {
    lines: { "internal error suberror=1": "io out port=80 size=1 count=1 data=03|hlt" },
    why: NO_INT3,
  },
};

describe("VMM programs say what they say on /dev/kvm", () => {
  for (const program of programs) {
    const { name } = program;
    test(name, () => {
      const { lines = {}, every = false, last = false } = DIFFERENCES[name] ?? {};
      const left = new Set(Object.keys(lines));
      const recorded = golden[name]!;
      const want = recorded.flatMap((line, at) => {
        if (last && recorded.indexOf(line, at + 1) >= 0) return [line];
        const here = left.delete(line) || (every && line in lines);
        return here ? lines[line]!.split("|") : [line];
      });
      expect(runProgram(program)).toEqual(want);
      expect([...left]).toEqual([]); // every listed difference is one
    });
  }
});

test("every recorded program is here and every program is recorded", () => {
  expect(Object.keys(golden)).toEqual(programs.map((program) => program.name));
});
