import { existsSync, readFileSync } from "node:fs";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { grouped } from "../cost/index.ts";
import { exitReasonName } from "../kvm/index.ts";
import { compare, compareText, fourAnswers, fourAnswersText, runGuestUnderVmx } from "../lab/index.ts";
import { type GuestImage, parseImage } from "../machine/index.ts";
import { UsageError } from "./args.ts";
import type { Command } from "./command.ts";
import { packageRoot } from "./packageRoot.ts";
import { ConsoleWriter, styler } from "./terminal.ts";

const help = `\
Usage: wasm-vmx demo

What the package does, on guests that come with it:
  run a C program that computes SHA-256, as a guest under VMX,
  compare the policies for MSR 0x140 on a guest that starts an application
  (few CPUIDs, many exits to user space), on one that executes little but
  CPUID, and on one that shows the leak,
  and the four answers to the question of the 2019 thread.

Exit status 0, 1 when a guest crashed, 2 when one is missing.

Examples:
  wasm-vmx demo`;

const GUESTS = "fixtures/guests/bin/";

interface DemoGuest {
  readonly path: string;
  readonly image: GuestImage;
}

function guest(file: string): DemoGuest {
  const path = fileURLToPath(new URL(GUESTS + file, packageRoot()));
  if (!existsSync(path)) throw new UsageError(`the demonstration's guest is missing: ${path}`);
  return { path: relative(process.cwd(), path) || path, image: parseImage(readFileSync(path), { mode: "long" }) };
}

const print = (...lines: readonly string[]): boolean => process.stdout.write(`${lines.join("\n")}\n`);

/** The guest's own output, then a few lines on how it ran; the registers are left to `wasm-vmx run`. */
function runUnderVmx({ image }: DemoGuest): number {
  const writer = new ConsoleWriter(process.stdout);
  const begun = performance.now();
  const { ending, instructions, ledger } = runGuestUnderVmx({ image, console: writer.put });
  const seconds = (performance.now() - begun) / 1000;
  writer.flush();
  const exits = [...ledger.exitsByReason].sort((a, b) => b[1] - a[1]);
  print(
    `${grouped(instructions)} instructions in ${seconds.toFixed(2)} s (${(instructions / seconds / 1e6).toFixed(0)} MIPS)`,
    `${grouped(ledger.counts.exits)} VM exits: ${exits.map(([reason, n]) => `${exitReasonName(reason)} ${grouped(n)}`).join(", ")}`,
  );
  return ending.kind === "exit" ? ending.status : 1;
}

export const demoCommand: Command = {
  summary: "run a real guest under VMX and compare the policies",
  help,
  options: {},
  async run() {
    const style = styler(process.stdout);
    const title = (command: string, text: string): boolean =>
      print(style("bold", `$ wasm-vmx ${command}`), style("dim", `# ${text}`));
    const sha = guest("sha256-64.elf");
    title(`run ${sha.path} --vmx`, "a C program, as a guest under VMX");
    const status = runUnderVmx(sha);
    if (status !== 0) return status;
    print("");

    const show = (file: string, text: string) => {
      const { path, image } = guest(file);
      title(`compare ${path} --mode long`, text);
      const report = compare({ image });
      print(...compareText(report), "");
      return report;
    };
    const start = show("app-start.bin", "faulting on, 5 CPUIDs, then 2,000 trips to user space");
    const heavy = show("cpuid-heavy.bin", "faulting on, 20,000 CPUIDs at CPL 3, few trips");
    const leak = show("leak.bin", "faulting never on, one CPUID at CPL 3");
    const [first, ...rest] = fourAnswersText(fourAnswers(leak, heavy), start, heavy);
    print(style("bold", first!), ...rest);
    return 0;
  },
};
