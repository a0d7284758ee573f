import { formatInterval } from "../cost/index.ts";
import type { CompareReport, CompareRow } from "./compare.ts";
import { wrap } from "./wrap.ts";

/** The patch of the thread, the reply to it, and what kernels do. */
export const SIDES = ["upstream", "always-hardware", "host-nonzero"] as const;
export type Side = (typeof SIDES)[number];

export type CpuidOutcome = "completes" | "#GP by KVM" | "#GP by CPU" | "WRONG #GP";

/** One of the four static cases: what a CPUID at CPL 3 does, and what a trip costs in WRMSRs. */
export interface Answer {
  readonly host: number;
  readonly guest: number;
  readonly cells: Readonly<Record<Side, { readonly cpuid: CpuidOutcome; readonly wrmsrPerLoad: number }>>;
}

function outcome(row: CompareRow, guest: number): CpuidOutcome {
  if (guest === 0) return row.right ? "completes" : "WRONG #GP";
  return row.cpuidExits > 0 ? "#GP by KVM" : "#GP by CPU";
}

function cellOf(report: CompareReport, host: number, guest: number, policy: Side): Answer["cells"][Side] {
  const row = report.rows.find((one) => one.host === host && one.policy === policy);
  if (row === undefined) throw new RangeError(`the report has no run of ${policy} on a host with value ${host}`);
  return { cpuid: outcome(row, guest), wrmsrPerLoad: row.wrmsr / row.counts.entering_loads };
}

/** The four static answers, read off two runs: `plain` never turns faulting on, `faulting` does and executes CPUID. */
export function fourAnswers(plain: CompareReport, faulting: CompareReport): Answer[] {
  return [0, 1].flatMap((host) =>
    [plain, faulting].map((report, guest) => ({
      host,
      guest,
      cells: Object.fromEntries(SIDES.map((side) => [side, cellOf(report, host, guest, side)])) as Answer["cells"],
    })),
  );
}

const rate = (value: number): string => (value >= 10 ? value.toFixed(0) : value.toPrecision(2));

/** A table of the four answers, and one sentence on the question of 2019 from the break-evens of two guests. */
export function fourAnswersText(answers: readonly Answer[], start: CompareReport, heavy: CompareReport): string[] {
  const cell = ({ cpuid, wrmsrPerLoad: w }: Answer["cells"][Side]): string =>
    `${cpuid}, ${w === 0 ? "0" : w >= 1 ? w.toFixed(0) : w.toFixed(2)} W`;
  const lines = answers.map(({ host, guest, cells }) => {
    const texts = SIDES.map((side) => cell(cells[side]).padEnd(23));
    return `     ${host}      ${guest}  ${texts.join("")}`.trimEnd();
  });
  return [
    "The four static cases: what a CPUID at CPL 3 does; W is WRMSRs per load that",
    "enters the guest.",
    "",
    `  host  guest  ${["upstream", "the patch", "the reply"].map((name) => name.padEnd(23)).join("")}`.trimEnd(),
    `               ${SIDES.map((side) => `(${side})`.padEnd(23)).join("")}`.trimEnd(),
    ...lines,
    "",
    ...wrap(closing(answers, start, heavy), 80, ""),
  ];
}

function closing(answers: readonly Answer[], start: CompareReport, heavy: CompareReport): string {
  const same = (a: Answer): boolean =>
    a.cells["always-hardware"].cpuid === a.cells["host-nonzero"].cpuid &&
    Math.round(a.cells["always-hardware"].wrmsrPerLoad) === Math.round(a.cells["host-nonzero"].wrmsrPerLoad);
  const differ = answers.filter((a) => !same(a)).map(({ host, guest }) => `host ${host}, guest ${guest}`);
  const wrong = answers.filter((a) => a.cells.upstream.cpuid === "WRONG #GP");
  const [a, b] = [start.breakEven, heavy.breakEven];
  if (a === undefined || b === undefined) return "No break-even: neither guest faults.";
  const winner = { hardware: "the patch", emulation: "the reply", undecided: "neither" };
  const leak = wrong.length > 0 ? "and upstream, which took neither, still lets the host's bit fault the guest" : "";
  return (
    `The question of 2019: the two sides differ in ${differ.length} of 4 cases (${differ.join("; ")}); there hardware ` +
    `faulting pays above ${formatInterval(a.threshold)} faulting CPUIDs a load, application start makes ` +
    `${rate(a.rate)} (${winner[a.verdict]} is cheaper), a CPUID loop ${rate(b.rate)} (${winner[b.verdict]} is ` +
    `cheaper), ${leak}.`
  );
}
