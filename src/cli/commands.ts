import type { CommandEntry } from "./command.ts";

/** Every subcommand, in the order of the help. */
export const COMMANDS: readonly CommandEntry[] = [
  {
    name: "run",
    summary: "run a guest binary, bare or under VMX",
    load: async () => (await import("./run.ts")).runCommand,
  },
  {
    name: "gdb",
    summary: "debug a guest with GDB",
    load: async () => (await import("./gdb.ts")).gdbCommand,
  },
  {
    name: "trace",
    summary: "instructions, VM exits and faults of a run",
    load: async () => (await import("./trace.ts")).traceCommand,
  },
  {
    name: "disasm",
    summary: "list the instructions of a file",
    load: async () => (await import("./disasm.ts")).disasmCommand,
  },
  {
    name: "compare",
    summary: "run a guest under every policy for MSR 0x140 and compare",
    load: async () => (await import("./compare.ts")).compareCommand,
  },
  {
    name: "lab",
    summary: "sweep workloads, policies, host values and cost models",
    load: async () => (await import("./lab.ts")).labCommand,
  },
  {
    name: "bench",
    summary: "time guests on both tiers, VM exits and start-up",
    load: async () => (await import("./bench.ts")).benchCommand,
  },
  {
    name: "demo",
    summary: "run a real guest and show what it does",
    load: async () => (await import("./demo.ts")).demoCommand,
  },
  {
    name: "completion",
    summary: "completion of this command for bash, zsh or fish",
    load: async () => (await import("./completion.ts")).completionOf(COMMANDS),
  },
];

export const commandNamed = (name: string): CommandEntry | undefined => COMMANDS.find((one) => one.name === name);
