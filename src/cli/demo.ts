import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { UsageError } from "./args.ts";
import type { Command } from "./command.ts";
import { packageRoot } from "./packageRoot.ts";
import { runCommand } from "./run.ts";
import { styler } from "./terminal.ts";

const help = `\
Usage: wasm-vmx demo

Runs a guest that comes with the package: a C program that computes SHA-256,
as a 64-bit ELF.`;

const guestPath = (file: string) => fileURLToPath(new URL(`fixtures/guests/bin/${file}`, packageRoot()));

export const demoCommand: Command = {
  summary: "run a real guest and show what it does",
  help,
  options: {},
  async run() {
    const style = styler(process.stdout);
    const guest = guestPath("sha256-64.elf");
    if (!existsSync(guest)) throw new UsageError(`the demonstration's guest is missing: ${guest}`);
    process.stdout.write(`${style("bold", "$ wasm-vmx run fixtures/guests/bin/sha256-64.elf")}\n`);
    return runCommand.run({ positionals: [guest], strings: new Map(), flags: new Set() });
  },
};
