// `monitor COMMAND` in GDB.
import { CONTROL_NAMES, GPR_NAMES, SEGMENT_NAMES } from "../machine/index.ts";
import { MSR_REGISTERS } from "./features.ts";
import { programCounter } from "./registers.ts";
import { type GdbTarget, type MonitorCommand, MonitorError } from "./target.ts";

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

/** A whole number, decimal or 0x. */
export function monitorNumber(what: string, text: string | undefined): bigint {
  if (text === undefined || !/^(0x[0-9a-f]{1,16}|[0-9]{1,19})$/i.test(text)) {
    throw new MonitorError(`${what} must be a number, decimal or 0x..., not ${text === undefined ? "nothing" : text}`);
  }
  return BigInt(text);
}

function registers(target: GdbTarget, thread: number): string {
  const values = target.readRegisters(thread);
  const row = (names: readonly string[], value: (name: string) => string): string =>
    names.map((name) => `${name.padStart(5)} ${value(name)}`).join(" ");
  const wide = (name: string): string => (values[name as keyof typeof values] as bigint).toString(16).padStart(16, "0");
  const lines: string[] = [];
  for (let i = 0; i < GPR_NAMES.length; i += 4) lines.push(row(GPR_NAMES.slice(i, i + 4), wide));
  lines.push(row(["rip", "rflags"], wide));
  lines.push(`      linear ${hex(programCounter(values))}, ${target.codeMode(thread)}-bit code`);
  for (let i = 0; i < CONTROL_NAMES.length; i += 4) lines.push(row(CONTROL_NAMES.slice(i, i + 4), wide));
  for (const name of SEGMENT_NAMES) {
    const { selector, base, limit, attributes } = values[name];
    const hidden = `base ${base.toString(16).padStart(16, "0")} limit ${limit.toString(16).padStart(8, "0")}`;
    lines.push(`${name.padStart(5)} ${selector.toString(16).padStart(4, "0")} ${hidden} attributes ${hex(attributes)}`);
  }
  for (const name of ["gdtr", "idtr"] as const) {
    const { base, limit } = values[name];
    lines.push(`${name.padStart(5)}      base ${base.toString(16).padStart(16, "0")} limit ${hex(limit)}`);
  }
  return lines.join("\n");
}

function physical(target: GdbTarget, words: readonly string[]): string {
  const address = monitorNumber("the address", words[0]);
  const count = words[1] === undefined ? 64n : monitorNumber("the number of bytes", words[1]);
  if (count < 1n || count > 4096n) throw new MonitorError("between 1 and 4096 bytes");
  const lines: string[] = [];
  for (let at = address; at < address + count; at += 16n) {
    const size = Number(at + 16n > address + count ? address + count - at : 16n);
    const bytes = Array.from({ length: size }, (_, i) => target.readPhysical(at + BigInt(i), 1)?.[0]);
    const shown = bytes.map((byte) => byte?.toString(16).padStart(2, "0") ?? "--").join(" ");
    lines.push(`${hex(at)}: ${shown}`);
  }
  return lines.join("\n");
}

function msr(target: GdbTarget, thread: number, words: readonly string[]): string {
  const index = Number(monitorNumber("the MSR", words[0]));
  if (words[1] !== undefined) {
    const value = monitorNumber("the value", words[1]);
    if (!target.writeMsr(thread, index, value))
      throw new MonitorError(`WRMSR ${hex(index)} = ${hex(value)} raises #GP(0)`);
  }
  const value = target.readMsr(thread, index);
  if (value === undefined) throw new MonitorError(`RDMSR ${hex(index)} raises #GP(0)`);
  const name = Object.entries(MSR_REGISTERS).find(([, number]) => number === index)?.[0];
  return `${hex(index)}${name === undefined ? "" : ` ${name}`} = ${hex(value)}`;
}

const common = (target: GdbTarget): readonly MonitorCommand[] => [
  {
    name: "registers",
    usage: "registers",
    summary: "all registers, with the hidden parts of segments",
    run: (_words, thread) => registers(target, thread),
  },
  {
    name: "msr",
    usage: "msr INDEX [VALUE]",
    summary: "read or write an MSR",
    run: (words, thread) => msr(target, thread, words),
  },
  {
    name: "translate",
    usage: "translate ADDRESS",
    summary: "physical address of a linear one",
    run: (words, thread) => {
      const linear = monitorNumber("the address", words[0]);
      const found = target.translate(thread, linear);
      return found === undefined ? `${hex(linear)} is not mapped` : `${hex(linear)} -> ${hex(found)}`;
    },
  },
  {
    name: "xp",
    usage: "xp ADDRESS [BYTES]",
    summary: "physical memory",
    run: (words) => physical(target, words),
  },
  ...target.commands,
];

/** What `monitor` prints. */
export function runMonitor(target: GdbTarget, thread: number, line: string): string {
  const [name = "help", ...words] = line
    .trim()
    .split(/\s+/)
    .filter((word) => word !== "");
  const commands = common(target);
  if (name === "help") {
    const width = Math.max(...commands.map(({ usage }) => usage.length));
    return commands.map(({ usage, summary }) => `${usage.padEnd(width)}  ${summary}`).join("\n");
  }
  const exact = commands.filter((command) => command.name === name);
  const found = exact.length > 0 ? exact : commands.filter((command) => command.name.startsWith(name));
  if (found.length !== 1) {
    const names = (found.length === 0 ? commands : found).map((command) => command.name).join(", ");
    return `${found.length === 0 ? "unknown" : "ambiguous"} command "${name}": ${names}, help`;
  }
  try {
    return found[0]!.run(words, thread);
  } catch (error) {
    if (error instanceof MonitorError) return `${found[0]!.usage}: ${error.message}`;
    throw error;
  }
}
