// Makes the smallest case that still differs, and says what happens in it.
import { type Case, makeCase } from "./cases.ts";
import { REACHED_END } from "./layout.ts";
import type { Harness } from "./native.ts";
import { differences, type Replayer } from "./replay.ts";
import type { Result } from "./result.ts";

const NAMES = "rax rcx rdx rbx rsp rbp rsi rdi r8 r9 r10 r11 r12 r13 r14 r15".split(" ");
const hex = (value: bigint | number): string => value.toString(16);

async function compare(c: Case, harness: Harness, replayer: Replayer): Promise<{ native: Result; diff: string[] }> {
  const [native] = await harness.run([c]);
  return { native: native!, diff: differences(c, native!, replayer.run(c)) };
}

/** Drops bytes from the end and from the start for as long as the case still differs in the same thing. */
export async function shrink(c: Case, harness: Harness, replayer: Replayer): Promise<Case> {
  const first = (diff: readonly string[]): string | undefined => diff[0]?.split(":")[diff[0].startsWith("v") ? 1 : 0];
  const wanted = first((await compare(c, harness, replayer)).diff);
  let best = c;
  for (let again = true; again; ) {
    again = false;
    for (const fromStart of [false, true]) {
      for (let n = best.code.length - 1; n > 0; n--) {
        const code = fromStart ? best.code.slice(n) : best.code.slice(0, best.code.length - n);
        const candidate = { ...best, code, undefinedAtEnd: c.undefinedAnywhere };
        if (first((await compare(candidate, harness, replayer)).diff) !== wanted) continue;
        best = candidate;
        again = true;
        break;
      }
    }
  }
  return best;
}

function describe(c: Case, native: Result): string[] {
  const { state } = c;
  const count = c.bits === 64 ? 16 : 8;
  const registers = (gpr: BigUint64Array): string =>
    NAMES.slice(0, count)
      .map((name, i) => `${name}=${hex(gpr[i]!)}`)
      .join(" ");
  const bytes = [...c.code].map((b) => b.toString(16).padStart(2, "0")).join(" ");
  return [
    `${c.bits}-bit code at offset ${hex(c.at)}: ${bytes}`,
    `before  ${registers(state.gpr)} rflags=${hex(state.rflags)} fs=${hex(state.fsBase)} gs=${hex(state.gsBase)}`,
    `after   ${registers(native.gpr)} rflags=${hex(native.rflags)}`,
    native.vector === REACHED_END
      ? "        ran to the end"
      : `        vector ${native.vector} error ${hex(native.error)} rip ${hex(native.rip)} cr2 ${hex(native.cr2)}`,
    `undefined flags ${hex(c.undefinedAtEnd)}`,
  ];
}

export async function report(stream: number, n: number, harness: Harness, replayer: Replayer): Promise<string> {
  const c = makeCase(stream, n);
  const small = await shrink(c, harness, replayer);
  const { native, diff } = await compare(small, harness, replayer);
  const whole = [...c.code].map((b) => b.toString(16).padStart(2, "0")).join(" ");
  return [`case ${n} of seed ${stream}: ${whole}`, ...describe(small, native), ...diff].join("\n  ");
}
