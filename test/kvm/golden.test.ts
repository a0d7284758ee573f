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
}

const EMULATOR_DR7 =
  "the recorded module steps in its emulator, which leaves dr7 of the run page; handle_exception fills it";
const NO_INT3 = "the recorded module's emulator has no INT3; on VMX the processor delivers it, or it exits as #BP";
const NO_BREAKPOINTS = "debug registers do not act in this processor yet, and the call says so";
const step = (...pcs: number[]): { [line: string]: string } =>
  Object.fromEntries(
    pcs.map((pc) => {
      const line = `debug exception=1 pc=${pc.toString(16)} dr6=ffff4ff0 dr7=`;
      return [`${line}0`, `${line}400`];
    }),
  );

/** Programs whose recording is not what KVM on VMX does, and why. */
const DIFFERENCES: { readonly [program: string]: Difference } = {
  "interrupt-window": {
    lines: { hlt: "irq window ready=1 if=1", "regs rip=1008": "regs rip=1007" },
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
  "software-breakpoint": {
    lines: { "internal error suberror=1": "debug exception=3 pc=1002 dr6=0 dr7=0" },
    why: NO_INT3,
  },
  "software-breakpoint-not-asked-for": {
    lines: { "internal error suberror=1": "io out port=80 size=1 count=1 data=03|hlt" },
    why: NO_INT3,
  },
};

/** Programs that need what is not built; what is said today. */
const NOT_BUILT: { readonly [program: string]: readonly string[] } = {
  "hardware-breakpoint": ["regs 0", "debug EINVAL"],
  "hardware-watchpoint": ["regs 0", "debug EINVAL"],
};

describe("VMM programs say what they say on /dev/kvm", () => {
  for (const program of programs) {
    const { name } = program;
    if (name in NOT_BUILT) {
      test(`${name}: ${NO_BREAKPOINTS}`, () => {
        expect(runProgram(program).slice(0, 2)).toEqual(NOT_BUILT[name]);
      });
      continue;
    }
    test(name, () => {
      const lines = { ...DIFFERENCES[name]?.lines };
      const want = golden[name]!.flatMap((line) => {
        const right = lines[line] ?? line;
        delete lines[line]; // the first such line only
        return right.split("|");
      });
      expect(runProgram(program)).toEqual(want);
      expect(lines).toEqual({}); // every listed difference is one
    });
  }
});

test("every recorded program is here and every program is recorded", () => {
  expect(Object.keys(golden)).toEqual(programs.map((program) => program.name));
});
