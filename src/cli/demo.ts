import { existsSync } from "node:fs";
import { relative } from "node:path";
import { fileURLToPath } from "node:url";
import { parseOptions, UsageError } from "./args.ts";
import type { Command } from "./command.ts";
import { compareCommand } from "./compare.ts";
import { packageRoot } from "./packageRoot.ts";
import { runCommand } from "./run.ts";
import { styler } from "./terminal.ts";

const help = `\
Usage: wasm-vmx demo

Three commands on guests that come with the package:
  run a C program that computes SHA-256, as a guest under VMX,
  compare the policies for MSR 0x140 on a guest that starts an application
  (few CPUIDs, many exits to user space) and on one that executes little but
  CPUID.`;

const STEPS: readonly (readonly [name: string, command: Command, args: readonly string[]])[] = [
  ["run", runCommand, ["sha256-64.elf", "--vmx"]],
  ["compare", compareCommand, ["app-start.bin", "--mode", "long"]],
  ["compare", compareCommand, ["cpuid-heavy.bin", "--mode", "long"]],
];

const GUESTS = "fixtures/guests/bin/";

export const demoCommand: Command = {
  summary: "run a real guest under VMX and compare the policies",
  help,
  options: {},
  async run() {
    const style = styler(process.stdout);
    for (const [name, command, [file, ...rest]] of STEPS) {
      const path = fileURLToPath(new URL(GUESTS + file, packageRoot()));
      const guest = relative(process.cwd(), path);
      if (!existsSync(guest)) throw new UsageError(`the demonstration's guest is missing: ${guest}`);
      process.stdout.write(`${style("bold", `$ wasm-vmx ${[name, guest, ...rest].join(" ")}`)}\n`);
      const status = await command.run(parseOptions([guest, ...rest], command.options));
      if (status !== 0) return status;
      process.stdout.write("\n");
    }
    return 0;
  },
};
