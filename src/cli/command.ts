import type { OptionSpec, ParsedArgs } from "./args.ts";

/** A subcommand of wasm-vmx. */
export interface Command {
  /** One line for the list of commands. */
  readonly summary: string;
  /** The whole text of `wasm-vmx COMMAND --help`. */
  readonly help: string;
  /** Long options besides --help, which the dispatcher handles. */
  readonly options: Readonly<Record<string, OptionSpec>>;
  /** What completion offers for arguments; default: files. */
  readonly arguments?: { readonly words?: readonly string[]; readonly files?: boolean };
  /** Exit status. A UsageError or GuestImageError thrown here becomes a message and status 2. */
  run(args: ParsedArgs): Promise<number>;
}

/** A subcommand's place in the table of commands. */
export interface CommandEntry {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** Loaded when it is needed: each command starts quickly whatever the others need. */
  readonly load: () => Promise<Command>;
}

/** Exit statuses besides the guest's own. */
export const ExitStatus = {
  Ok: 0,
  Crash: 1,
  Usage: 2,
  Internal: 70,
  Limit: 124,
  Interrupted: 130,
} as const;
