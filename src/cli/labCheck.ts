import { checkPolicy, checkText } from "../lab/index.ts";
import { ALL_POLICIES } from "../policy/index.ts";
import { type ParsedArgs, parseNumber } from "./args.ts";
import { ExitStatus } from "./command.ts";
import { hostsFrom, policiesFrom } from "./policyOptions.ts";
import { styler } from "./terminal.ts";

/** `lab check`: property check of policies over schedules. Status 1 when a policy of the user's file goes wrong. */
export async function runCheck(args: ParsedArgs): Promise<number> {
  const { run } = await policiesFrom(args);
  const number = (name: string): number | undefined => {
    const text = args.strings.get(name);
    return text === undefined ? undefined : parseNumber(`--${name}`, text, 1e9);
  };
  const [schedules, seed] = [number("schedules"), number("seed")];
  const hosts = hostsFrom(args, [0, 1, 2, 3]);
  const style = styler(process.stdout);
  let bad = false;
  const reports = run.map((policy) => {
    const report = checkPolicy(policy, {
      hosts,
      ...(schedules === undefined ? {} : { schedules }),
      ...(seed === undefined ? {} : { seed }),
    });
    bad ||= report.findings.length > 0 && !ALL_POLICIES.includes(policy);
    if (!args.flags.has("json")) {
      const [first, ...rest] = checkText(report);
      process.stdout.write(`${[style("bold", first!), ...rest].join("\n")}\n`);
    }
    return report;
  });
  if (args.flags.has("json")) {
    process.stdout.write(
      `${JSON.stringify(reports, (_key, value) => (typeof value === "bigint" ? Number(value) : value))}\n`,
    );
  }
  return bad ? ExitStatus.Crash : ExitStatus.Ok;
}
