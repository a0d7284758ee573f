import { readFileSync } from "node:fs";
import { GuestImageError, MemoryMapError } from "../core/index.ts";
import { parseOptions, suggestion, UsageError } from "./args.ts";
import { ExitStatus } from "./command.ts";
import { COMMANDS, commandNamed } from "./commands.ts";
import { columnsOf, fitText } from "./fit.ts";
import { packageRoot } from "./packageRoot.ts";
import { exitOnBrokenPipe, styler } from "./terminal.ts";

function usage(): string {
  const list = COMMANDS.map(({ name, summary }) => `  ${name.padEnd(10)}  ${summary}`);
  return `\
Usage: wasm-vmx COMMAND [options]

An x86 processor with VMX in WebAssembly, and a host that plays KVM.

Commands:
${list.join("\n")}

  --help      this text, or a command's own: wasm-vmx run --help
  --version   the version

Exit status:
  0   success, or the guest halted; run and trace: what the guest wrote to port
      0xF4 (low 8 bits)
  1   the guest crashed (triple fault)
  2   bad input
  70  internal error
  124 --max-instructions reached
  130 interrupted (Ctrl-C)

Output is plain text when it is no terminal or NO_COLOR is set.`;
}

function version(): string {
  const text = readFileSync(new URL("package.json", packageRoot()), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

const print = (text: string) => process.stdout.write(`${fitText(text, columnsOf(process.stdout))}\n`);

function entryOf(name: string) {
  const entry = commandNamed(name);
  if (entry !== undefined) return entry;
  const kind = name.startsWith("-") ? "option" : "command";
  const known = name.startsWith("-") ? ["--help", "--version"] : COMMANDS.map((one) => one.name);
  throw new UsageError(`unknown ${kind} ${name}${suggestion(name, known)}; see wasm-vmx --help`);
}

async function dispatch(argv: readonly string[]): Promise<number> {
  const [name, ...rest] = argv;
  if (name === undefined) {
    process.stderr.write(`${fitText(usage(), columnsOf(process.stderr))}\n`);
    return ExitStatus.Usage;
  }
  if (name === "--help" || name === "-h" || name === "help") {
    const [topic] = rest;
    print(topic === undefined || topic.startsWith("-") ? usage() : (await entryOf(topic).load()).help);
    return ExitStatus.Ok;
  }
  if (name === "--version" || name === "-V") {
    print(version());
    return ExitStatus.Ok;
  }
  const command = await entryOf(name).load();
  const options = { help: { type: "boolean", short: "h" }, ...command.options } as const;
  const args = parseOptions(rest, options, `wasm-vmx ${name} --help`);
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
