import { readFileSync } from "node:fs";
import { GuestImageError, MemoryMapError } from "../core/index.ts";
import { parseOptions, suggestion, UsageError } from "./args.ts";
import { type Command, ExitStatus } from "./command.ts";
import { packageRoot } from "./packageRoot.ts";
import { exitOnBrokenPipe, styler } from "./terminal.ts";

const COMMANDS: Readonly<Record<string, { readonly summary: string; readonly load: () => Promise<Command> }>> = {
  run: { summary: "run a guest binary, bare or under VMX", load: async () => (await import("./run.ts")).runCommand },
  compare: {
    summary: "run a guest under every policy for MSR 0x140 and compare",
    load: async () => (await import("./compare.ts")).compareCommand,
  },
  lab: {
    summary: "sweep workloads, policies, host values and cost models",
    load: async () => (await import("./lab.ts")).labCommand,
  },
  demo: {
    summary: "run a real guest and show what it does",
    load: async () => (await import("./demo.ts")).demoCommand,
  },
};

function usage(): string {
  const list = Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(10)} ${summary}`);
  return `\
Usage: wasm-vmx COMMAND [options]

An x86 processor with VMX in WebAssembly, and a host that plays KVM.

Commands:
${list.join("\n")}

  --help     this text, or a command's own: wasm-vmx run --help
  --version  the version`;
}

function version(): string {
  const text = readFileSync(new URL("package.json", packageRoot()), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

const print = (text: string) => process.stdout.write(`${text}\n`);

async function dispatch(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined) {
    process.stderr.write(`${usage()}\n`);
    return ExitStatus.Usage;
  }
  if (name === "--help" || name === "-h" || name === "help") {
    const topic = rest[0] === undefined ? undefined : COMMANDS[rest[0]];
    print(topic ? (await topic.load()).help : usage());
    return ExitStatus.Ok;
  }
  if (name === "--version" || name === "-V") {
    print(version());
    return ExitStatus.Ok;
  }
  if (!Object.hasOwn(COMMANDS, name)) {
    const kind = name.startsWith("-") ? "option" : "command";
    const known = name.startsWith("-") ? ["--help", "--version"] : Object.keys(COMMANDS);
    throw new UsageError(`unknown ${kind} ${name}${suggestion(name, known)}; see wasm-vmx --help`);
  }
  const command = await COMMANDS[name]!.load();
  const args = parseOptions(rest, { help: { type: "boolean", short: "h" }, ...command.options });
  if (args.flags.has("help")) {
    print(command.help);
    return ExitStatus.Ok;
  }
  return command.run(args);
}

/** The command line: exit status of one command. */
export async function main(argv: readonly string[]): Promise<number> {
  exitOnBrokenPipe();
  try {
    return await dispatch(argv);
  } catch (error) {
    const style = styler(process.stderr);
    const bad = error instanceof UsageError || error instanceof GuestImageError || error instanceof MemoryMapError;
    const text = bad || !(error instanceof Error) ? String((error as Error).message ?? error) : (error.stack ?? "");
    process.stderr.write(`${style("red", "wasm-vmx:")} ${text}\n`);
    return bad ? ExitStatus.Usage : ExitStatus.Internal;
  }
}
