import { grouped } from "../../cost/index.ts";
import { wrap } from "../wrap.ts";
import { eventText } from "./event.ts";
import type { CheckReport } from "./search.ts";
import type { ViolationKind } from "./world.ts";

const WHAT: Readonly<Record<ViolationKind, string>> = {
  leak: "the host's CPUID faulting acts in the guest",
  "mwait leak": "the host's ring-3 MWAIT acts in the guest",
  "host lost": "a host thread runs with another 0x140 than its own",
  "stale write": "a write reaches the hardware after the put",
  error: "the policy fails",
};

const REPLAYED = ["; on the processor with guests it does not", "; so it does on the processor with guests"] as const;

/** What was found about one policy, for a terminal of 80 columns. */
export function checkText(report: CheckReport): string[] {
  const count = grouped(report.tried);
  if (report.findings.length === 0) return [`${report.policy}: nothing found in ${count} schedules.`];
  return [
    `${report.policy}: ${count} schedules`,
    ...report.findings.flatMap(({ kind, schedule, violation, shortest, replayed }) => [
      ...wrap(
        `  ${kind}: ${WHAT[kind]}. ${shortest ? "Shortest schedule" : "Schedule"}, host value ${schedule.host}:`,
        80,
        "    ",
      ),
      ...schedule.events.flatMap((event, i) => wrap(`    ${i + 1}. ${eventText(event)}`, 80, "       ")),
      ...wrap(`    => ${violation.text}${REPLAYED[Number(replayed) as 0 | 1]}`, 80, "       "),
    ]),
  ];
}
