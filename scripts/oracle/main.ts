/**
 * npm run oracle:native -- [--cases N] [--seed S] [--from N] [--keep-going] [--record FILE]
 *
 * Runs generated cases on this machine's processor and on the emulator, and compares. Stops at the first difference,
 * made as small as possible; --keep-going counts them by kind. Ctrl-C says where to go on with --from.
 */
import { writeFileSync } from "node:fs";
import { parseArgs } from "node:util";
import { opcodeRows } from "../opcodes.ts";
import { type Case, makeCase } from "./cases.ts";
import { pack, type Recorded } from "./fixture.ts";
import { BASE, STUB, STUCK } from "./layout.ts";
import { Harness } from "./native.ts";
import { differences, Replayer } from "./replay.ts";
import { report } from "./report.ts";
import type { Result } from "./result.ts";

const BATCH = 4000;

const { values } = parseArgs({
  options: {
    cases: { type: "string", default: "1000000" },
    seed: { type: "string", default: "1" },
    from: { type: "string", default: "0" },
    record: { type: "string" },
    "keep-going": { type: "boolean", default: false },
  },
});
const [cases, seed, from] = [Number(values.cases), Number(values.seed), Number(values.from)];
if (![cases, seed, from].every((n) => Number.isSafeInteger(n) && n >= 0)) {
  console.error("--cases, --seed and --from take whole numbers");
  process.exit(2);
}

let interrupted = false;
process.once("SIGINT", () => {
  interrupted = true;
});

/** Linux has a page of its own here, whose entry points are system calls: a case that branches to it leaves its world. */
const VSYSCALL_PAGE = 0xffff_ffff_ff60_0000n;
/** The way out is mapped for the processor only: a case whose data are there by chance leaves its world too. */
const WAY_OUT = BigInt(BASE + STUB);

const PREFIXES = new Set([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3]);

/** Does an x87, MMX or SSE instruction lie at `rip`? Far transfers may come down inside an instruction, where one begins. */
function notBuilt(c: Case, rip: bigint): boolean {
  let at = Number(rip & 0xffff_ffffn) - c.at;
  if (at >= BASE) at -= BASE;
  while (PREFIXES.has(c.code[at] ?? 0) || (c.code[at] ?? 0) >> 4 === 4) at++;
  const [opcode = 0, second = 0] = c.code.subarray(at, at + 2);
  if (opcode >= 0xd8 && opcode <= 0xdf) return true;
  return opcode === 0x0f && opcodeRows.some((r) => r.map === "0f" && r.opcode === second && r.mnemonic === "simd");
}

const harness = new Harness();
const replayer = new Replayer();
const started = performance.now();
const kinds = new Map<string, { count: number; example: number }>();
const recorded: Recorded[] = [];
let stuck = 0;
let leaves = 0;
let failed = 0;

function compare(c: Case, native: Result): string[] | undefined {
  if (native.vector === STUCK) {
    stuck++;
    return undefined;
  }
  const emulated = replayer.run(c);
  const { vector, rip, cr2 } = emulated;
  if (vector === 14 && (rip >> 12n === VSYSCALL_PAGE >> 12n || cr2 >> 12n === WAY_OUT >> 12n)) {
    leaves++;
    return undefined;
  }
  if (vector === 6 && notBuilt(c, rip)) {
    leaves++;
    return undefined;
  }
  return differences(c, native, emulated);
}

async function one(n: number, c: Case, native: Result): Promise<boolean> {
  const diff = compare(c, native);
  if (diff?.length === 0 && values.record) recorded.push({ case: c, result: native });
  if (!diff?.length) return true;
  failed++;
  const kind = diff.map((d) => d.split(" ")[0]).join(" ");
  const seen = kinds.get(kind);
  kinds.set(kind, { count: (seen?.count ?? 0) + 1, example: seen?.example ?? n });
  if (values["keep-going"]) return true;
  console.log(await report(seed, n, harness, replayer));
  return false;
}

function progress(done: number): void {
  const rate = Math.round(done / ((performance.now() - started) / 1000));
  const text = `${done} of ${cases} cases, ${rate} a second, ${failed} differ, ${stuck} never ended, ${leaves} left their world`;
  if (process.stderr.isTTY) process.stderr.write(`\r${text}`);
  else if (done % (BATCH * 100) === 0 || done === cases) console.error(text);
}

let done = 0;
let next = harness.run(batch(0));
function batch(at: number): Case[] {
  return Array.from({ length: Math.min(BATCH, cases - at) }, (_, i) => makeCase(seed, from + at + i));
}
let list = batch(0);
run: while (done < cases && !interrupted) {
  const results = await next;
  const at = done + list.length;
  const following = at < cases ? batch(at) : [];
  if (following.length && values["keep-going"]) next = harness.run(following);
  for (const [i, c] of list.entries()) {
    if (!(await one(from + done + i, c, results[i]!))) {
      done += i;
      break run;
    }
  }
  if (following.length && !values["keep-going"]) next = harness.run(following);
  done = at;
  list = following;
  progress(done);
}
harness.close();
if (process.stderr.isTTY) console.error();
if (interrupted) console.error(`interrupted: go on with --seed ${seed} --from ${from + done}`);
for (const [kind, { count, example }] of kinds) {
  if (values["keep-going"]) console.log(`${count} x ${kind}, the first is case ${example}`);
}
if (values.record) writeFileSync(values.record, pack(recorded));
process.exitCode = failed ? 1 : interrupted ? 130 : 0;
