/**
 * npm run oracle:lengths -- [--cases N] [--seed S] [--keep-going] [--record FILE]
 *
 * How many bytes of an undefined instruction a processor fetches before it raises #UD: the page after the first n bytes is
 * not there, for n from 1 on. Compares this machine's processor with the core's decoder.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { COMM_BYTES } from "../../assembly/abi/run.ts";
import { ModeBit } from "../../assembly/abi/state.ts";
import { Core } from "../../src/core/index.ts";
import type { Case } from "./cases.ts";
import { pack, type Recorded } from "./fixture.ts";
import { BASE, type Bits, CODE_SIZE } from "./layout.ts";
import { Harness } from "./native.ts";
import { Random } from "./random.ts";
import type { Result } from "./result.ts";
import { stateOf } from "./state.ts";

const MAX_LENGTH = 15;
const BATCH = 500;
const UNDEFINED = 0x100;
const TOO_LONG = 0x200;
const STATE_SEED = 7;
const PAGE_FAULT = 14;
const FETCH = 0x10;
const MODES = {
  16: ModeBit.Protected,
  32: ModeBit.Protected | ModeBit.Code32,
  64: ModeBit.Protected | ModeBit.LongMode | ModeBit.Code64,
} as const;
const PREFIXES = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3];

interface Encoding {
  readonly bits: Bits;
  readonly bytes: Uint8Array;
}

/** Prefixes, an escape or a VEX or EVEX prefix, and 15 arbitrary bytes from the opcode on. */
function encoding(random: Random): Encoding {
  const bits = random.pick([16, 32, 64] as const);
  const bytes: number[] = [];
  const count = random.chance(50) ? 0 : random.chance(90) ? 1 + random.below(3) : random.below(14);
  for (let i = 0; i < count; i++) bytes.push(random.pick(PREFIXES));
  if (bits === 64 && random.chance(20)) bytes.push(0x40 | random.below(16));
  const map = random.below(10);
  if (map < 4) bytes.push(0x0f);
  if (map === 2) bytes.push(0x38 | random.below(8));
  if (map === 4) bytes.push(0xc5, random.u32() & 0xff);
  if (map === 5) bytes.push(0xc4, random.u32() & 0xff, random.u32() & 0xff);
  if (map === 6) bytes.push(0x62, random.u32() & 0xff, random.u32() & 0xff, random.u32() & 0xff);
  while (bytes.length < 2 * MAX_LENGTH) bytes.push(random.u32() & 0xff);
  return { bits, bytes: Uint8Array.from(bytes.slice(0, MAX_LENGTH)) };
}

/** System calls, and what changes state that the harness does not put back. */
function dangerous({ bits, bytes }: Encoding): boolean {
  let at = 0;
  while (PREFIXES.includes(bytes[at]!) || (bits === 64 && (bytes[at]! & 0xf0) === 0x40)) at++;
  if (bytes[at] === 0xcd) return true;
  return bytes[at] === 0x0f && [0x01, 0x05, 0x34, 0xae, 0xc7].includes(bytes[at + 1]!);
}

const core = new Core(16);
function decode({ bits, bytes }: Encoding, n: number): number {
  core.u8.set(bytes.subarray(0, n), COMM_BYTES);
  return core.exports.decodeOnly(n, MODES[bits]);
}

/** The last n bytes of the code pages. */
function cut({ bits, bytes }: Encoding, n: number): Case {
  return {
    bits,
    seed: STATE_SEED,
    state: STATES[bits],
    at: CODE_SIZE - n,
    code: bytes.slice(0, n),
    patchAt: 0,
    patch: new Uint8Array(0),
    undefinedAtEnd: 0,
    undefinedAnywhere: 0,
  };
}
const STATES = { 16: stateOf(STATE_SEED, 16), 32: stateOf(STATE_SEED, 32), 64: stateOf(STATE_SEED, 64) };

function wantsMore({ bits }: Encoding, n: number, result: Result): boolean {
  const start = BigInt((bits === 16 ? 0 : BASE) + CODE_SIZE - n);
  if (result.vector !== PAGE_FAULT || (result.error & FETCH) === 0) return false;
  return result.rip === start && result.cr2 === BigInt(BASE + CODE_SIZE);
}

const { values } = parseArgs({
  options: {
    cases: { type: "string", default: "100000" },
    seed: { type: "string", default: "1" },
    "keep-going": { type: "boolean", default: false },
    record: { type: "string" },
  },
});
const cases = Number(values.cases);
const random = new Random(Number(values.seed));
if (!Number.isSafeInteger(cases) || cases < 1) {
  console.error("--cases takes a whole number");
  process.exit(2);
}

let interrupted = false;
process.once("SIGINT", () => {
  interrupted = true;
});
const harness = new Harness();
const recorded: Recorded[] = [];
const counts = { undefined: 0, tooLong: 0, executes: 0, different: 0 };

/** Compares one encoding with what its cuts did. */
function compare(one: Encoding, results: readonly Result[]): void {
  const n = results.findIndex((result, i) => !wantsMore(one, i + 1, result)) + 1;
  const { vector, rip } = results[n - 1]!;
  const kind = vector === 6 && rip === BigInt((one.bits === 16 ? 0 : BASE) + CODE_SIZE - n);
  let ours = 1;
  while (ours <= MAX_LENGTH && !decode(one, ours)) ours++;
  const answer = decode(one, ours);
  const long = (answer & TOO_LONG) !== 0;
  const same = n === ours && (!long || vector === 13) && (!kind || (answer & UNDEFINED) !== 0);
  if (!same) {
    counts.different++;
    const text = Buffer.from(one.bytes).toString("hex");
    console.log(`${one.bits} ${text}: processor ${n} vector ${vector}, decoder ${ours} answer ${answer.toString(16)}`);
  }
  if (kind) counts.undefined++;
  else if (long) counts.tooLong++;
  else counts.executes++;
  if (!same || !(kind || long) || !values.record) return;
  for (let k = 1; k <= n; k++) recorded.push({ case: cut(one, k), result: results[k - 1]! });
}

let done = 0;
while (done < cases && !interrupted && (values["keep-going"] || counts.different === 0)) {
  const list: Encoding[] = [];
  while (list.length < BATCH) {
    const one = encoding(random);
    if (!dangerous(one) && decode(one, MAX_LENGTH) & (UNDEFINED | TOO_LONG)) list.push(one);
  }
  const results = await harness.run(
    list.flatMap((one) => Array.from({ length: MAX_LENGTH }, (_, i) => cut(one, i + 1))),
  );
  for (const [i, one] of list.entries()) compare(one, results.slice(i * MAX_LENGTH, (i + 1) * MAX_LENGTH));
  done += list.length;
  if (process.stderr.isTTY || done % 50_000 === 0) {
    process.stderr.write(`${done} of ${cases}, ${counts.different} differ${process.stderr.isTTY ? "\r" : "\n"}`);
  }
}
harness.close();
const { undefined: ud, tooLong, executes, different } = counts;
console.log(
  `${done} encodings: ${ud} #UD, ${tooLong} over 15 bytes, ${executes} the processor has; ${different} differ`,
);
if (values.record) writeFileSync(values.record, pack(recorded));
process.exitCode = different ? 1 : interrupted ? 130 : 0;
