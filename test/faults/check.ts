// Takes away each page that a case touches, in each way, and says what is wrong with what is left.
import type { OpcodeRow } from "../../scripts/opcodes.ts";
import { type Denial, differences, type End, type GuestBench, type Start } from "./guestBench.ts";
import { AT, type GuestPage } from "./guestWorld.ts";

export const HOWS: readonly Denial[] = ["not present", "read-only", "not present in EPT", "read-only in EPT"];

/** A row in words. */
export const place = (row: OpcodeRow): string =>
  [row.map, row.opcode.toString(16), row.digit, row.prefixes?.join(), row.mod, row.mnemonic, row.operands].join(" ");

const P = 1;
const W = 2;
const U = 4;
const READ = 1n;
const WRITTEN = 2n;
const LINEAR_AND_TRANSLATION = 0x180n;
const REP = [0xf2, 0xf3];

export interface Done {
  notPresent: number;
  readOnly: number;
  eptAbsent: number;
  eptReadOnly: number;
  /** More than one page was touched. */
  crossing: number;
}
export const none = (): Done => ({ notPresent: 0, readOnly: 0, eptAbsent: 0, eptReadOnly: 0, crossing: 0 });

const name = (page: GuestPage): string => page.linear.toString(16);

function pageFault(start: Start, page: GuestPage, how: Denial, write: boolean, end: End): string[] {
  const bad: string[] = [];
  // tables and the stack of CPL 0 are used with supervisor rights whatever CPL is
  const user = start.cpl === 3 && page.linear >= AT.window ? U : 0;
  const expected = user | (how === "read-only" ? P | W : end.error & W);
  if (end.error !== expected) bad.push(`error code ${end.error}`);
  if (!write && end.error & W) bad.push("a write where nothing is written");
  if (Number(end.qualification >> 12n) !== page.linear >> 12) bad.push(`address ${end.qualification.toString(16)}`);
  return bad;
}

function eptViolation(page: GuestPage, how: Denial, write: boolean, end: End): string[] {
  const bad: string[] = [];
  const q = end.qualification;
  if (Number(end.physical >> 12n) !== page.physical >> 12) bad.push(`physical ${end.physical.toString(16)}`);
  if ((q & LINEAR_AND_TRANSLATION) !== LINEAR_AND_TRANSLATION) bad.push(`qualification ${q.toString(16)}`);
  if (how === "read-only in EPT" && (q & 0x3an) !== (WRITTEN | 0x28n)) bad.push(`qualification ${q.toString(16)}`);
  if (how === "not present in EPT" && ((q & (READ | WRITTEN)) === 0n || (q & 0x38n) !== 0n))
    bad.push(`qualification ${q.toString(16)}`);
  if (!write && q & WRITTEN) bad.push("a write where nothing is written");
  return bad;
}

export function check(bench: GuestBench, start: Start, hows: readonly Denial[], done: Done): string[] {
  const { end: whole, touched, written } = bench.whole(start);
  if (whole.kind !== "end") return [];
  const problems: string[] = [];
  const repeats = start.code.some((byte) => REP.includes(byte));
  const where = `${Buffer.from(start.code).toString("hex")} ${start.bits}-bit${start.legacy ? " legacy" : ""} CPL ${start.cpl}`;
  for (const page of touched) {
    const write = written.includes(page);
    for (const how of hows) {
      const tell = (list: readonly string[], what = ""): void => {
        if (list.length) problems.push(`${where} page ${name(page)} ${how}${what}: ${list.join(", ")}`);
      };
      const { before, end, resumed } = bench.denied(start, page, how);
      if (/^read-only/.test(how) && !write) {
        tell(differences(whole, end));
        continue;
      }
      const ept = how.endsWith("EPT");
      if (end.kind !== (ept ? "EPT violation" : "page fault")) {
        tell([`${end.kind} ${end.number}`]);
        continue;
      }
      const bad = ept ? eptViolation(page, how, write, end) : pageFault(start, page, how, write, end);
      if (!repeats) bad.push(...differences(before, end));
      tell(bad);
      tell(differences(whole, resumed!), ", resumed");
      if (how === "not present") done.notPresent++;
      else if (how === "read-only") done.readOnly++;
      else if (how === "not present in EPT") done.eptAbsent++;
      else done.eptReadOnly++;
      if (touched.length > 1) done.crossing++;
    }
  }
  return problems;
}
