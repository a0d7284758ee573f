// docs/study-cpuid-faulting.md: the argument of the 2019 thread replayed. Every number comes from the runs made here.
import { readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { COST_MODELS, costModel, formatInterval, grouped } from "../src/cost/index.ts";
import {
  checkPolicy,
  compare,
  eventText,
  expand,
  fourAnswers,
  measuredBreakEvens,
  ScenarioRunner,
  SIDES,
  type SweepResults,
  threshold,
} from "../src/lab/index.ts";
import { parseImage } from "../src/machine/index.ts";
import { ALL_POLICIES, policyByName } from "../src/policy/index.ts";

const at = (path: string): URL => new URL(`../${path}`, import.meta.url);
const guest = (name: string) => parseImage(readFileSync(at(`fixtures/guests/bin/${name}.bin`)), { mode: "long" });
const three = (value: number): number => Number(value.toPrecision(3));
const table = (head: readonly string[], rows: readonly (readonly string[])[]): string =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");

const reports = {
  start: compare({ image: guest("app-start") }),
  heavy: compare({ image: guest("cpuid-heavy") }),
  leak: compare({ image: guest("leak") }),
};
const rowOf = (report: typeof reports.start, host: number, policy: string) =>
  report.rows.find((row) => row.host === host && row.policy === policy)!;

function sweep(): SweepResults {
  const binary = new Uint8Array(readFileSync(at("fixtures/lab/bin/mix.bin")));
  const runner = new ScenarioRunner({ kind: "mix", binary });
  const axes = { policy: ["always-hardware", "host-nonzero"], cpuids: [0, 0.125, 0.25, 0.3, 0.5, 0.625, 1], host: [0] };
  const scenarios = expand({ ...axes, vmcsSwitchEvery: [0] });
  const cells = scenarios.map((scenario, index) => ({ index, result: runner.run(scenario) }));
  return { format: "wasm-vmx lab 1", guest: "mix", total: cells.length, cells };
}

function staticCases(): string {
  const rows = fourAnswers(reports.leak, reports.heavy).map(({ host, guest: bit, cells }) => [
    String(host),
    String(bit),
    ...SIDES.map((side) => `${cells[side].cpuid}, ${three(cells[side].wrmsrPerLoad)}`),
  ]);
  return table(["host bit", "guest bit", "upstream", "the patch", "the reply"], rows);
}

function workloads(): string {
  const rows = (["start", "heavy"] as const).map((name) => {
    const report = reports[name];
    const { rate, verdict } = report.breakEven!;
    const cycles = (policy: string): string => formatInterval(rowOf(report, 0, policy).cycles.total);
    const title = name === "start" ? "application start" : "CPUID loop";
    const winner = { hardware: "the patch", emulation: "the reply", undecided: "neither" }[verdict];
    return [title, String(three(rate)), cycles("always-hardware"), cycles("host-nonzero"), winner];
  });
  return table(
    ["guest, host value 0", "faulting CPUIDs a load", "the patch, cycles", "the reply, cycles", "cheaper"],
    rows,
  );
}

function breakEvens(): string {
  const results = sweep();
  const rows = COST_MODELS.map((model) => {
    const [found] = measuredBreakEvens(results, model);
    const show = (range: { low: number; high: number } | undefined): string =>
      range === undefined ? "outside the sweep" : formatInterval({ low: three(range.low), high: three(range.high) });
    return [`\`${model.name}\``, model.summary, show(found!.expected), show(found!.measured)];
  });
  return table(["cost model", "", "by prices", "by the runs"], rows);
}

const thresholds = COST_MODELS.map((model) => ({ model, ...threshold(model, 1) }));

function holds(): string {
  const wins = thresholds.filter(({ low }) => start.rate < low);
  return wins.length === thresholds.length ? "every model" : `${wins.length} of ${thresholds.length} models`;
}

function span(): string {
  const low = Math.min(...thresholds.map((one) => one.low));
  const high = Math.max(...thresholds.map((one) => one.high));
  return `${three(low)} and ${three(high)}`;
}

function checks(): string {
  return ALL_POLICIES.map((policy) => {
    const report = checkPolicy(policy, { hosts: [0, 1] });
    if (report.findings.length === 0) return `- \`${policy.name}\`: nothing in ${grouped(report.tried)} schedules.`;
    const found = report.findings.map(({ kind, schedule, violation, replayed }) => {
      const steps = schedule.events.map(eventText).join("; then ");
      const again = replayed ? "" : " Not so with a guest.";
      return `  - ${kind}, host value ${schedule.host}: ${steps}. Result: ${violation.text}.${again}`;
    });
    return [`- \`${policy.name}\`, ${grouped(report.tried)} schedules:`, ...found].join("\n");
  }).join("\n");
}

const leaked = rowOf(reports.leak, 1, "upstream");
const start = reports.start.breakEven!;
const hardwareStart = rowOf(reports.start, 0, "always-hardware");
const trip = formatInterval({
  low: 2 * costModel("thread-trip").wrmsr.cycles.low,
  high: 2 * costModel("thread-trip").wrmsr.cycles.high,
});

/** The whole file. */
export const study = `# CPUID faulting under KVM: the argument of March 2019, run

\`npm run study\` writes this file; every number in it was counted or computed by that run.

## The question

A processor with CPUID faulting raises #GP(0) for a CPUID above CPL 0 when bit 0 of MSR 0x140 is on. A guest may turn its
own, virtual bit on. A patch of March 2019 (v2 2/2, here \`always-hardware\`) put the guest's bit into the hardware while
the guest runs, so that a CPUID that faults needs no VM exit. The reply (here \`host-nonzero\`) wanted to leave the hardware
alone unless the host's own value is non-zero: a WRMSR costs ${trip} cycles a round trip to user space, every trip, while
an exit of ~${grouped(costModel("thread-trip").exit.cycles.low)} cycles is paid only by CPUIDs that fault anyway, a handful at
application start.

## The four static cases

What a CPUID at CPL 3 does, and the WRMSRs of a load that enters the guest, measured on two guests:

${staticCases()}

The two sides differ in one case: host 0, guest 1. Where the table has a fraction, the guest starts with its bit off and
turns it on in the first load.

## What each side got right

${workloads()}

- **The reply is right about application start**: ${start.faultingCpuids} faulting CPUIDs in ${grouped(start.enteringLoads)} loads
  are ${three(start.rate)} a load, far below the break-even of ${formatInterval(start.threshold)}. The patch saves
  ${start.faultingCpuids} exits there and pays ${grouped(hardwareStart.wrmsr)} WRMSRs.
- **The patch is right about a guest that executes CPUID all the time**, and about the mechanism: with the bit in the
  hardware the #GP comes without an exit, and CPUIDs at CPL 0 exit under both.
- **Both are right that the host's bit must not reach the guest**, which the first patch of the series was for.

## Where the break-even lies

Faulting CPUIDs a load that enters the guest, above which hardware faulting is cheaper on a host with value 0. "By prices"
is two WRMSRs and the RDMSR of a load over an exit; "by the runs" is where the cycles of runs at seven rates cross.

${breakEvens()}

The two readings of the thread's figure, for a trip or for each write, are its first two rows. The conclusion for
application start holds under ${holds()}; how much CPUID a guest must execute to turn it lies between
${span()} a load, by the model. For the price of a WRMSR of this MSR there is no measurement at all.

## The leak that is upstream to this day

Neither version was merged. No released kernel (checked to Linux 7.1) switches 0x140 for a VMX guest. A VMM thread that
has turned CPUID off for itself (ARCH_SET_CPUID, which survives fork) has its bit in the hardware while its guest runs, and
the processor raises the #GP before KVM sees an exit. The guest \`leak\`, which never turned faulting on, on such a host:
${leaked.wrong}; it printed "${leaked.output.trim().split("\n").at(-1)}". Under ${reports.leak.rows
  .filter((row) => row.host === 1 && row.right)
  .map((row) => `\`${row.policy}\``)
  .join(", ")} it ran as on a host without the feature.

## Xen's opposite choice

Xen leaves the guest's faulting active in the hardware since 2017 (commit adb35bd45267, "Conditionally leave CPUID Faulting
active in HVM context"): the patch's policy. Xen itself is not run here. What the runs say about its choice is that the
break-even counts CPUIDs a switch: a hypervisor that switches the MSR more rarely than KVM visits user space needs fewer
CPUIDs for hardware faulting to pay.

## What schedules break

\`wasm-vmx lab check\` on hosts with value 0 and 1; entries, guest WRMSRs, preemptions, moves between CPUs, ioctls and
arch_prctl of two vCPUs in every order up to three steps, then at random. A "stale write" is one that reaches the hardware after the vCPU
was put; it comes from the missing preempt_disable between the test of loaded_cpu_state and the WRMSR in vmx_set_msr. What is
found was played again under KVM on the emulated processor, with a guest that executes the WRMSRs; it shows the same there
unless a line says otherwise.

${checks()}

The race of \`${policyByName("always-hardware").name}\` is for ever, as its next RDMSR takes the guest's value for the
host's; \`host-nonzero\` takes it from Linux's shadow and is right again after one load.
`;

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  writeFileSync(at("docs/study-cpuid-faulting.md"), study);
  console.log("docs/study-cpuid-faulting.md written");
}
