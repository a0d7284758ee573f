import { readFileSync } from "node:fs";
import { type GuestImage, isElf, parseImage, START_MODES, type StartMode } from "../machine/index.ts";
import { type OptionSpec, type ParsedArgs, parseNumber, parseSize, suggestion, UsageError } from "./args.ts";

/** Options that say how a guest file is loaded; shared by every command that takes GUEST. */
export const GUEST_OPTIONS = {
  load: { type: "string" },
  entry: { type: "string" },
  mode: { type: "string", values: START_MODES },
  memory: { type: "string" },
} as const satisfies Record<string, OptionSpec>;

export const GUEST_OPTIONS_HELP = `\
  --mode MODE        real, protected (32-bit, flat, paging off) or long (64-bit);
                     default: real for flat binaries; an ELF file decides itself
  --load ADDRESS     where a flat binary goes (default 0x7C00, else 1 MiB)
  --entry ADDRESS    first instruction (default: the load address, or the ELF's)
  --memory SIZE      RAM, such as 64M (default 16M)`;

export const DEFAULT_MEMORY = 16 << 20;
/** RAM and tables share one 4 GiB WebAssembly memory. */
const MAX_MEMORY = 4064 * 2 ** 20;

/** The bytes of a file that the user named. UsageError says why it cannot be read, or that it is empty. */
export function readFileOf(what: string, path: string): Uint8Array {
  try {
    const bytes = readFileSync(path);
    if (bytes.length === 0) throw new UsageError(`${what} ${path} is empty`);
    return bytes;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    const code = (error as NodeJS.ErrnoException).code;
    const why: Readonly<Record<string, string>> = {
      ENOENT: "there is no such file",
      EISDIR: "it is a directory",
      EACCES: "permission denied",
    };
    throw new UsageError(`cannot read ${what} ${path}: ${why[code ?? ""] ?? (error as Error).message}`);
  }
}

export interface Guest {
  readonly path: string;
  readonly image: GuestImage;
  readonly memory: number;
}

/** Reads and checks the guest named on the command line. */
export function guestFrom(args: ParsedArgs, command: string): Guest {
  const [path, ...extra] = args.positionals;
  if (path === undefined) throw new UsageError(`no guest given: wasm-vmx ${command} GUEST (see --help)`);
  if (extra.length > 0)
    throw new UsageError(`one guest at a time: ${extra.map((e) => `"${e}"`).join(", ")} is too much`);
  const number = (name: string) => {
    const value = args.strings.get(name);
    return value === undefined ? undefined : parseNumber(`--${name}`, value, 0xffff_ffff);
  };
  const mode = args.strings.get("mode");
  if (mode !== undefined && !START_MODES.includes(mode as StartMode)) {
    throw new UsageError(`unknown mode "${mode}": ${START_MODES.join(", ")}${suggestion(mode, START_MODES)}`);
  }
  const size = args.strings.get("memory");
  const memory = size === undefined ? DEFAULT_MEMORY : parseSize("--memory", size);
  if (memory < 4096 || memory > MAX_MEMORY || memory % 4096 !== 0) {
    throw new UsageError(
      `--memory ${size} is ${memory} bytes: RAM must be a multiple of 4K between 4K and ${MAX_MEMORY / 2 ** 20}M`,
    );
  }
  const bytes = readFileOf("guest", path);
  const load = number("load");
  const entry = number("entry");
  if (isElf(bytes) && load !== undefined) {
    throw new UsageError(`--load is for flat binaries: ${path} is an ELF file, which says itself where it goes`);
  }
  const image = parseImage(bytes, {
    ...(load === undefined ? {} : { load }),
    ...(entry === undefined ? {} : { entry }),
    ...(mode === undefined ? {} : { mode: mode as StartMode }),
  });
  return { path, image, memory };
}
