import type { CodeMode } from "../core/index.ts";
import { grouped } from "../cost/index.ts";
import type { RegisterValues } from "../machine/index.ts";
import { GPR_NAMES, SEGMENT_NAMES } from "../machine/index.ts";
import { ExitStatus } from "./command.ts";

/** How a guest's run ended. */
export type Ending =
  | { readonly kind: "exit" /** What was written to port 0xF4. */; readonly status: number }
  | { readonly kind: "halt" }
  | { readonly kind: "powerOff" | "reset" }
  | { readonly kind: "shutdown" }
  | { readonly kind: "limit" }
  /** The work bound that goes with --max-instructions: a REP that never completes counts no instruction. */
  | { readonly kind: "workLimit" }
  | { readonly kind: "interrupted" }
  | { readonly kind: "failed"; readonly message: string };

export interface Outcome {
  readonly ending: Ending;
  readonly instructions: number | bigint;
  readonly registers: RegisterValues;
  readonly cpl: number;
  readonly codeMode: CodeMode;
  /** Under VMX: VM exits by name. */
  readonly exits?: Readonly<Record<string, number>>;
  /** Under VMX: cycles of the cost model. */
  readonly cycles?: number | bigint;
  readonly policy?: string;
}

export function exitStatus(ending: Ending): number {
  switch (ending.kind) {
    case "exit":
      return ending.status & 0xff;
    case "halt":
    case "powerOff":
    case "reset":
      return ExitStatus.Ok;
    case "shutdown":
    case "failed":
      return ExitStatus.Crash;
    case "limit":
    case "workLimit":
      return ExitStatus.Limit;
    case "interrupted":
      return ExitStatus.Interrupted;
  }
}

const hex = (value: bigint | number, digits: number) => value.toString(16).padStart(digits, "0");

export function describeEnding(ending: Ending): string {
  switch (ending.kind) {
    case "exit":
      return `the guest ended itself by port 0xF4 with ${ending.status}`;
    case "halt":
      return "the guest halted";
    case "powerOff":
      return "the guest switched the machine off";
    case "reset":
      return "the guest reset the machine";
    case "shutdown":
      return "the guest crashed: triple fault";
    case "limit":
      return "stopped at --max-instructions";
    case "workLimit":
      return "stopped by the work bound: the guest repeats without completing instructions";
    case "interrupted":
      return "interrupted";
    case "failed":
      return ending.message;
  }
}

function registerLines(outcome: Outcome): string[] {
  const { registers, codeMode } = outcome;
  const wide = (registers.efer & 0x400n) !== 0n;
  const digits = wide ? 16 : 8;
  const perLine = 4;
  const names = GPR_NAMES.slice(0, wide ? 16 : 8);
  const show = (name: string) => (wide || /^r\d/.test(name) ? name : `e${name.slice(1)}`);
  const lines: string[] = [];
  for (let i = 0; i < names.length; i += perLine) {
    lines.push(
      names
        .slice(i, i + perLine)
        .map((name) => `${show(name).padStart(3)} ${hex(registers[name], digits)}`)
        .join("  "),
    );
  }
  const ip = wide ? "rip" : "eip";
  lines.push(
    `${ip} ${hex(registers.rip, digits)}  flags ${hex(registers.rflags, 8)}  CPL ${outcome.cpl}  ${codeMode}-bit code`,
  );
  lines.push(
    SEGMENT_NAMES.slice(0, 6)
      .map((name) => `${name} ${hex(registers[name].selector, 4)}`)
      .join("  "),
  );
  lines.push(
    `cr0 ${hex(registers.cr0, 8)}  cr2 ${hex(registers.cr2, digits)}  cr3 ${hex(registers.cr3, digits)}  ` +
      `cr4 ${hex(registers.cr4, 8)}  efer ${hex(registers.efer, 4)}`,
  );
  return lines;
}

/** Lines for stderr. */
export function summaryLines(outcome: Outcome, seconds: number): string[] {
  const rate = Number(outcome.instructions) / seconds / 1e6;
  const lines = [
    describeEnding(outcome.ending),
    `${grouped(outcome.instructions)} instructions in ${seconds.toFixed(3)} s (${rate.toFixed(1)} MIPS), ` +
      (outcome.policy === undefined ? "bare" : `under VMX, policy ${outcome.policy}`),
  ];
  if (outcome.exits) {
    const counts = Object.entries(outcome.exits).filter(([, n]) => n > 0);
    const total = counts.reduce((sum, [, n]) => sum + n, 0);
    const list = counts.map(([name, n]) => `${name} ${grouped(n)}`).join(", ");
    lines.push(`${grouped(total)} VM exits${list ? `: ${list}` : ""}`);
  }
  if (outcome.cycles !== undefined) lines.push(`${grouped(outcome.cycles)} cycles by the cost model`);
  return [...lines, ...registerLines(outcome)];
}

/** The same as data; 64-bit values are strings, for JSON has no bigint. */
export function summaryJson(outcome: Outcome, seconds: number, consoleText: string): string {
  const { ending, registers, ...rest } = outcome;
  return JSON.stringify(
    { ending, exitStatus: exitStatus(ending), seconds, ...rest, registers, console: consoleText },
    (_key, value) => (typeof value === "bigint" ? `0x${value.toString(16)}` : value),
  );
}
