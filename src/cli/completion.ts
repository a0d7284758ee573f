import { type OptionSpec, suggestion, UsageError } from "./args.ts";
import { type Command, type CommandEntry, ExitStatus } from "./command.ts";

const SHELLS = ["bash", "zsh", "fish"] as const;
type Shell = (typeof SHELLS)[number];

const help = `\
Usage: wasm-vmx completion SHELL

Prints a script that completes the commands, options and their values in bash,
zsh or fish.

Examples:
  source <(wasm-vmx completion bash)
  wasm-vmx completion zsh > "\${fpath[1]}/_wasm-vmx"
  wasm-vmx completion fish > ~/.config/fish/completions/wasm-vmx.fish

Exit status 0, or 2 for bad input.`;

interface Completed {
  readonly name: string;
  readonly summary: string;
  readonly options: readonly (readonly [name: string, spec: OptionSpec])[];
  /** What the positional arguments are: words, or files when there are none. */
  readonly words: readonly string[];
  readonly files: boolean;
}

async function table(commands: readonly CommandEntry[]): Promise<Completed[]> {
  return Promise.all(
    commands.map(async ({ name, summary, load }) => {
      const command = await load();
      const options: [string, OptionSpec][] = Object.entries<OptionSpec>(command.options);
      const { words = [], files = true } = command.arguments ?? {};
      return { name, summary, options: [...options, ["help", { type: "boolean" }]], words, files };
    }),
  );
}

const flags = ({ options }: Completed): string => options.map(([name]) => `--${name}`).join(" ");

function bash(commands: readonly Completed[]): string {
  const cases = commands.map((command) => {
    const values = command.options
      .filter(([, spec]) => spec.type === "string")
      .map(([name, { values: words }]) => {
        const reply = words ? `$(compgen -W "${words.join(" ")}" -- "$current")` : `$(compgen -f -- "$current")`;
        return `        --${name}) COMPREPLY=(${reply}); return ;;`;
      });
    const words =
      command.words.length > 0 ? `COMPREPLY+=($(compgen -W "${command.words.join(" ")}" -- "$current"))` : "";
    const files = command.files ? `COMPREPLY+=($(compgen -f -- "$current"))` : "";
    return `    ${command.name})
      case "$previous" in
${values.join("\n")}${values.length > 0 ? "\n" : ""}        *) ;;
      esac
      if [[ $current == -* ]]; then COMPREPLY=($(compgen -W "${flags(command)}" -- "$current")); return; fi
      ${[words, files].filter((line) => line !== "").join("\n      ") || ":"}
      ;;`;
  });
  return `# bash completion of wasm-vmx
_wasm_vmx() {
  local current="\${COMP_WORDS[COMP_CWORD]}" previous="\${COMP_WORDS[COMP_CWORD-1]}"
  COMPREPLY=()
  if (( COMP_CWORD == 1 )); then
    COMPREPLY=($(compgen -W "${commands.map(({ name }) => name).join(" ")} --help --version" -- "$current"))
    return
  fi
  case "\${COMP_WORDS[1]}" in
${cases.join("\n")}
  esac
}
complete -o filenames -F _wasm_vmx wasm-vmx
`;
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

function zsh(commands: readonly Completed[]): string {
  const cases = commands.map((command) => {
    const specs = command.options.map(([name, spec]) => {
      const value = spec.type === "boolean" ? "" : `:value:${spec.values ? `(${spec.values.join(" ")})` : "_files"}`;
      return quoted(`--${name}${spec.type === "boolean" ? "" : "="}[${name}]${value}`);
    });
    const words = command.words.length > 0 ? [quoted(`1:argument:(${command.words.join(" ")})`)] : [];
    const files = command.files ? [quoted("*:file:_files")] : [];
    return `    ${command.name}) _arguments ${[...specs, ...words, ...files].join(" \\\n        ")} ;;`;
  });
  return `#compdef wasm-vmx
_wasm_vmx() {
  local -a commands
  commands=(
${commands.map(({ name, summary }) => `    ${quoted(`${name}:${summary}`)}`).join("\n")}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    _arguments '--help[help]' '--version[version]'
    return
  fi
  local command="\${words[2]}"
  shift words
  (( CURRENT-- ))
  case "$command" in
${cases.join("\n")}
  esac
}
if [ "$funcstack[1]" = "_wasm_vmx" ]; then _wasm_vmx "$@"; else compdef _wasm_vmx wasm-vmx; fi
`;
}

function fish(commands: readonly Completed[]): string {
  const lines = ["# fish completion of wasm-vmx", "complete -c wasm-vmx -f"];
  const first = "-n __fish_use_subcommand";
  lines.push(`complete -c wasm-vmx ${first} -l help`, `complete -c wasm-vmx ${first} -l version`);
  for (const command of commands) {
    lines.push(`complete -c wasm-vmx ${first} -a ${command.name} -d ${quoted(command.summary)}`);
    const inside = `-n '__fish_seen_subcommand_from ${command.name}'`;
    for (const [name, spec] of command.options) {
      const value = spec.type === "boolean" ? "" : spec.values ? ` -x -a ${quoted(spec.values.join(" "))}` : " -r -F";
      lines.push(`complete -c wasm-vmx ${inside} -l ${name}${value}`);
    }
    if (command.words.length > 0) lines.push(`complete -c wasm-vmx ${inside} -a ${quoted(command.words.join(" "))}`);
    if (command.files) lines.push(`complete -c wasm-vmx ${inside} -F`);
  }
  return `${lines.join("\n")}\n`;
}

const SCRIPTS: Readonly<Record<Shell, (commands: readonly Completed[]) => string>> = { bash, zsh, fish };

/** The command that completes all commands of a table. */
export const completionOf = (commands: readonly CommandEntry[]): Command => ({
  summary: "completion of this command for bash, zsh or fish",
  help,
  options: {},
  arguments: { words: SHELLS, files: false },
  async run(args) {
    const [shell, ...extra] = args.positionals;
    if (shell === undefined || extra.length > 0) {
      throw new UsageError(`one shell is needed: wasm-vmx completion ${SHELLS.join(" | ")}`);
    }
    const known = SHELLS.find((name) => name === shell);
    if (known === undefined) {
      throw new UsageError(`unknown shell "${shell}": ${SHELLS.join(", ")}${suggestion(shell, SHELLS)}`);
    }
    process.stdout.write(SCRIPTS[known](await table(commands)));
    return ExitStatus.Ok;
  },
});
