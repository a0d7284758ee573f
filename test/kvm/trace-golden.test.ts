// What KVM's tracepoints say: recorded by fixtures/kvm/recorder.c from tracefs, on Linux 6.18.
import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { formatTraceEvent } from "../../src/trace/index.ts";
import { parsePrograms, runProgram } from "./programs.ts";

const file = (name: string): string => readFileSync(new URL(`../../fixtures/kvm/${name}`, import.meta.url), "utf8");
const programs = parsePrograms(file("trace-programs.txt"));
const golden = JSON.parse(file("golden-trace.json")) as { [program: string]: string[] };
const TRACED = ["kvm_cpuid", "kvm_msr", "kvm_inj_exception", "kvm_pio", "kvm_mmio", "kvm_userspace_exit"];

/** CPUID data are the machine's. */
const withoutData = (line: string): string => line.replace(/\b(r[abcd]x) [0-9a-f]+/g, "$1");

test.each(programs)("$name", (program) => {
  const lines: string[] = [];
  runProgram(program, (event) => {
    if (TRACED.includes(event.name)) lines.push(formatTraceEvent(event).replace(/: +/, ": "));
  });
  expect(lines.map(withoutData)).toEqual(golden[program.name]!.map(withoutData));
});

test("every recorded program is here", () => {
  expect(Object.keys(golden)).toEqual(programs.map(({ name }) => name));
});
