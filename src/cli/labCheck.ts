import { type CheckOptions, checkPolicy, checkText, countSchedules } from "../lab/index.ts";
import { ALL_POLICIES } from "../policy/index.ts";
import { type ParsedArgs, parseNumber } from "./args.ts";
import { ExitStatus } from "./command.ts";
import { hostsFrom, policiesFrom } from "./policyOptions.ts";
import { progressOn, styler } from "./terminal.ts";

const MOST_STEPS = 6;

/** --schedules, --seed and --exhaustive. */
export function checkOptions(args: ParsedArgs): CheckOptions {
  const number = (name: string, most: number): number | undefined => {
    const text = args.strings.get(name);
    return text === undefined ? undefined : parseNumber(`--${name}`, text, most);
  };
  const [schedules, seed] = [number("schedules", 1e9), number("seed", 0xffff_ffff)];
  const exhaustive = number("exhaustive", MOST_STEPS);
  return {
    ...(schedules === undefined ? {} : { schedules }),
    ...(seed === undefined ? {} : { seed }),
    ...(exhaustive === undefined ? {} : { exhaustive }),
  };
}

/** `lab check`: property check of policies over schedules. Status 1 when a policy of the user's file goes wrong. */
export async function runCheck(args: ParsedArgs): Promise<number> {
  const { run } = await policiesFrom(args);
  const options = { ...checkOptions(args), hosts: hostsFrom(args, [0, 1, 2, 3]) };
  const each = countSchedules(options);
  const progress = progressOn(process.stderr, "lab check", each * run.length, "schedules");
  const style = styler(process.stdout);
  let bad = false;
  const reports = run.map((policy, i) => {
    const report = checkPolicy(policy, { ...options, progress: (tried) => progress.show(each * i + tried) });
    bad ||= report.findings.length > 0 && !ALL_POLICIES.includes(policy);
    if (!args.flags.has("json")) {
      progress.end();
      const [first, ...rest] = checkText(report);
      process.stdout.write(`${[style("bold", first!), ...rest].join("\n")}\n`);
    }
    return report;
  });
  progress.end();
  if (args.flags.has("json")) {
    process.stdout.write(
      `${JSON.stringify(reports, (_key, value) => (typeof value === "bigint" ? Number(value) : value))}\n`,
    );
  }
  return bad ? ExitStatus.Crash : ExitStatus.Ok;
}
