import { disassemble } from "../disasm/index.ts";
import { suggestion, UsageError } from "./args.ts";

export const TRACE_KINDS = ["instruction", "fault", "interrupt", "exit", "entry", "msr", "kvm"] as const;
export type TraceKind = (typeof TRACE_KINDS)[number];

interface RecordBase {
  /** Instructions and deliveries that were completed before. */
  readonly count: bigint;
  /** Linear address of the instruction. */
  readonly address: bigint;
}

/** One line of a trace. */
export type TraceRecord =
  | (RecordBase & {
      readonly kind: "instruction";
      readonly mode: 16 | 32 | 64;
      readonly bytes: Uint8Array;
      /** Registers that it changed. */
      readonly changed: Readonly<Record<string, bigint>>;
    })
  | (RecordBase & {
      /** An exception or interrupt that was delivered; the address is that of the instruction it came at. */
      readonly kind: "fault" | "interrupt";
      readonly vector: number;
      readonly errorCode?: number;
      /** Of #PF: CR2. */
      readonly linear?: bigint;
      /** First instruction of the handler. */
      readonly handler: bigint;
    })
  | (RecordBase & {
      readonly kind: "exit";
      readonly reason: string;
      readonly qualification: bigint;
      readonly interruption: bigint;
    })
  | (RecordBase & { readonly kind: "entry" })
  /** A host access to MSR 0x140, or another of KVM's tracepoints. */
  | (RecordBase & { readonly kind: "msr" | "kvm"; readonly text: string });

const EXCEPTIONS: Readonly<Record<number, string>> = {
  ...{ 0: "#DE", 1: "#DB", 2: "NMI", 3: "#BP", 4: "#OF", 5: "#BR", 6: "#UD", 7: "#NM", 8: "#DF", 10: "#TS" },
  ...{ 11: "#NP", 12: "#SS", 13: "#GP", 14: "#PF", 16: "#MF", 17: "#AC", 18: "#MC", 19: "#XM", 20: "#VE", 21: "#CP" },
};

export const vectorName = (vector: number): string => EXCEPTIONS[vector] ?? `vector ${vector}`;

const hex = (value: bigint | number): string => value.toString(16);
const hexBytes = (bytes: Uint8Array): string => Array.from(bytes, (byte) => hex(byte).padStart(2, "0")).join(" ");

function instructionText(record: TraceRecord & { kind: "instruction" }): { bytes: Uint8Array; text: string } {
  const { bytes, mode, address } = record;
  const { length, text } = disassemble(bytes, { mode, address });
  return { bytes: bytes.subarray(0, length), text };
}

export interface TextOptions {
  readonly name: (address: bigint) => string | undefined;
  readonly dim: (text: string) => string;
}

function rest(record: TraceRecord, { dim }: TextOptions): string {
  switch (record.kind) {
    case "instruction": {
      const { bytes, text } = instructionText(record);
      const changes = Object.entries(record.changed).map(([name, value]) => `${name}=${hex(value)}`);
      const line = `${hexBytes(bytes).padEnd(24)} ${text}`;
      return changes.length === 0 ? line : `${line.padEnd(60)} ${dim(changes.join(" "))}`;
    }
    case "fault":
    case "interrupt": {
      const code = record.errorCode === undefined ? "" : ` (0x${hex(record.errorCode)})`;
      const linear = record.linear === undefined ? "" : ` of 0x${hex(record.linear)}`;
      return `${record.kind} ${vectorName(record.vector)}${code}${linear} -> 0x${hex(record.handler)}`;
    }
    case "exit":
      return `exit ${record.reason} qualification 0x${hex(record.qualification)} interruption 0x${hex(record.interruption)}`;
    case "entry":
      return "entry";
    case "msr":
    case "kvm":
      return record.text;
  }
}

/** Count, address, and what happened. */
export function recordText(record: TraceRecord, options: TextOptions): string {
  const name = options.name(record.address);
  const place = name === undefined ? "" : ` ${options.dim(`<${name}>`)}`;
  return `${String(record.count).padStart(8)} ${hex(record.address).padStart(8, "0")}${place} ${rest(record, options)}`;
}

/** One JSON object; addresses and registers are hexadecimal strings. */
export function recordJson(record: TraceRecord, name: (address: bigint) => string | undefined): string {
  const { count, address, kind, ...more } = record;
  const shown =
    record.kind === "instruction" ? { ...instructionText(record), mode: record.mode, changed: record.changed } : more;
  const symbol = name(address);
  return JSON.stringify(
    { kind, count: Number(count), address, ...(symbol === undefined ? {} : { symbol }), ...shown },
    (_key, value) => {
      if (typeof value === "bigint") return `0x${hex(value)}`;
      return value instanceof Uint8Array ? hexBytes(value) : value;
    },
  );
}

export interface TraceFilter {
  readonly kinds: ReadonlySet<TraceKind>;
  /** Linear addresses, both ends included; empty: all. */
  readonly ranges: readonly (readonly [first: bigint, last: bigint])[];
}

export const inRanges = ({ ranges }: TraceFilter, address: bigint): boolean =>
  ranges.length === 0 || ranges.some(([first, last]) => address >= first && address <= last);

export function kindsFrom(text: string | undefined, otherwise: readonly TraceKind[]): ReadonlySet<TraceKind> {
  if (text === undefined) return new Set(otherwise);
  const words = text.split(",").map((word) => word.trim());
  const kinds = words.map((word) => {
    const kind = TRACE_KINDS.find((name) => name === word);
    if (kind !== undefined) return kind;
    throw new UsageError(`unknown kind "${word}"${suggestion(word, TRACE_KINDS)}; there are ${TRACE_KINDS.join(", ")}`);
  });
  return new Set(kinds);
}

const ADDRESS = "(0x[0-9a-f]{1,16}|[0-9]{1,19})";

/** `A-B,C`: addresses and ranges of them, both ends included. */
export function rangesFrom(text: string | undefined): (readonly [bigint, bigint])[] {
  if (text === undefined) return [];
  return text.split(",").map((item) => {
    const match = new RegExp(`^${ADDRESS}(?:-${ADDRESS})?$`, "i").exec(item.trim());
    if (match === null) throw new UsageError(`--range needs addresses such as 0x7c00-0x7dff or 0x1000, not "${item}"`);
    const first = BigInt(match[1]!);
    const last = match[2] === undefined ? first : BigInt(match[2]);
    if (last < first) throw new UsageError(`--range ${item} ends before it begins`);
    return [first, last] as const;
  });
}
