import {
  type CodeSection,
  type CodeSymbol,
  type DisassemblyMode,
  elfCode,
  type ListedInstruction,
  listing,
  SymbolNames,
} from "../disasm/index.ts";
import { isElf } from "../machine/index.ts";
import { type ParsedArgs, parseNumber, suggestion, UsageError } from "./args.ts";
import { type Command, ExitStatus } from "./command.ts";
import { readFileOf } from "./guestFile.ts";
import { writeLines } from "./lines.ts";
import { styler } from "./terminal.ts";

const help = `\
Usage: wasm-vmx disasm FILE [options]

Lists the instructions of a file in Intel syntax: the executable sections of an
ELF file with its names, or all of a raw file.

  --bits BITS        16, 32 or 64 (default: the ELF file's class; 16 for a raw
                     file)
  --base ADDRESS     address of the first byte of a raw file (default 0x7C00 for
                     16-bit code, else 0x100000, as wasm-vmx run loads it)
  --start ADDRESS    first address to list
  --stop ADDRESS     first address not to list
  --count N          at most N instructions
  --section NAME     this section of an ELF file only, code or not
  --json             a JSON object a line: address, bytes, text, mnemonic,
                     operands, and target, section, symbol where there is one
  --help             this text

Addresses are decimal or 0x hexadecimal. Bytes that are no instruction are
listed one by one as (bad).

Exit status 0, or 2 for bad input.

Examples:
  wasm-vmx disasm boot.bin
  wasm-vmx disasm kernel.elf --section .text --count 20
  wasm-vmx disasm guest.bin --bits 64 --start 0x100020 --stop 0x100040 --json`;

/** A piece of code, its addresses, and the names in it. */
interface Piece {
  readonly section?: string;
  readonly code: CodeSection;
  readonly names: SymbolNames;
}

interface Source {
  readonly mode: DisassemblyMode;
  readonly pieces: readonly Piece[];
}

const U64 = 0xffff_ffff_ffff_ffffn;

function address(args: ParsedArgs, option: string): bigint | undefined {
  const text = args.strings.get(option);
  if (text === undefined) return undefined;
  if (!/^(0x[0-9a-f]+|[0-9]+)$/i.test(text) || BigInt(text) > U64) {
    throw new UsageError(`--${option} needs an address, decimal or 0x..., of at most 64 bits, not "${text}"`);
  }
  return BigInt(text);
}

function bitsFrom(args: ParsedArgs): DisassemblyMode | undefined {
  const text = args.strings.get("bits");
  if (text === undefined) return undefined;
  if (text !== "16" && text !== "32" && text !== "64") throw new UsageError(`--bits is 16, 32 or 64, not "${text}"`);
  return Number(text) as DisassemblyMode;
}

function elfSource(bytes: Uint8Array, args: ParsedArgs): Source {
  if (args.strings.has("base")) {
    throw new UsageError("--base is for raw files: an ELF file says itself where its sections are");
  }
  const { mode, sections, symbols } = elfCode(bytes);
  const wanted = args.strings.get("section");
  const names = sections.map(({ name }) => name);
  if (wanted !== undefined && !names.includes(wanted)) {
    throw new UsageError(`there is no section ${wanted}${suggestion(wanted, names)}; there are ${names.join(", ")}`);
  }
  const inSection = (index: number) => (symbol: CodeSymbol) => symbol.section === undefined || symbol.section === index;
  const pieces = sections.flatMap((code, index) =>
    (wanted === undefined ? code.executable : code.name === wanted)
      ? [{ section: code.name, code, names: new SymbolNames(symbols.filter(inSection(index))) }]
      : [],
  );
  if (pieces.length === 0)
    throw new UsageError(`no section holds code; choose one with --section: ${names.join(", ")}`);
  return { mode: bitsFrom(args) ?? mode, pieces };
}

function rawSource(bytes: Uint8Array, args: ParsedArgs): Source {
  if (args.strings.has("section")) throw new UsageError("--section is for ELF files: this file is raw");
  const mode = bitsFrom(args) ?? 16;
  const base = address(args, "base") ?? (mode === 16 ? 0x7c00n : 0x10_0000n);
  return {
    mode,
    pieces: [{ code: { name: "", address: base, bytes, executable: true }, names: new SymbolNames([]) }],
  };
}

const hex = (value: bigint): string => value.toString(16);
const hexBytes = (bytes: Uint8Array): string =>
  Array.from(bytes, (byte) => hex(BigInt(byte)).padStart(2, "0")).join(" ");

function* instructions(source: Source, args: ParsedArgs): Generator<{ piece: Piece; one: ListedInstruction }> {
  const [start, stop] = [address(args, "start"), address(args, "stop")];
  const count = args.strings.get("count");
  let left = count === undefined ? Number.POSITIVE_INFINITY : parseNumber("--count", count);
  for (const piece of source.pieces) {
    const bounds = { ...(start === undefined ? {} : { start }), ...(stop === undefined ? {} : { stop }) };
    for (const one of listing(piece.code.bytes, { mode: source.mode, address: piece.code.address, ...bounds })) {
      if (left-- <= 0) return;
      yield { piece, one };
    }
  }
}

function json({ piece, one }: { piece: Piece; one: ListedInstruction }): string {
  const symbol = piece.names.near(one.address);
  return JSON.stringify({
    address: `0x${hex(one.address)}`,
    bytes: hexBytes(one.bytes),
    text: one.text,
    mnemonic: one.mnemonic,
    operands: one.operands,
    ...(one.target === undefined ? {} : { target: `0x${hex(one.target)}` }),
    ...(piece.section === undefined ? {} : { section: piece.section }),
    ...(symbol === undefined ? {} : { symbol }),
  });
}

function* textLines(source: Source, args: ParsedArgs): Generator<string> {
  const style = styler(process.stdout);
  let last: Piece | undefined;
  for (const { piece, one } of instructions(source, args)) {
    if (piece !== last && piece.section !== undefined) {
      yield `${last === undefined ? "" : "\n"}${style("bold", `section ${piece.section}`)}, ${source.mode}-bit`;
    }
    last = piece;
    for (const name of piece.names.at(one.address)) yield style("bold", `${name}:`);
    const target = one.target === undefined ? undefined : piece.names.near(one.target);
    const line = `${hex(one.address).padStart(8)}  ${hexBytes(one.bytes).padEnd(24)} ${one.text}`;
    yield target === undefined ? line : `${line} ${style("dim", `<${target}>`)}`;
  }
}

function* jsonLines(source: Source, args: ParsedArgs): Generator<string> {
  for (const found of instructions(source, args)) yield json(found);
}

export const disasmCommand: Command = {
  summary: "list the instructions of a file",
  help,
  options: {
    bits: { type: "string", values: ["16", "32", "64"] },
    base: { type: "string" },
    start: { type: "string" },
    stop: { type: "string" },
    count: { type: "string" },
    section: { type: "string" },
    json: { type: "boolean" },
  },
  async run(args) {
    const [path, ...extra] = args.positionals;
    if (path === undefined) throw new UsageError("no file given: wasm-vmx disasm FILE (see --help)");
    if (extra.length > 0) throw new UsageError(`one file at a time: "${extra.join('", "')}" is too much`);
    const bytes = readFileOf("file", path);
    const source = isElf(bytes) ? elfSource(bytes, args) : rawSource(bytes, args);
    const lines = args.flags.has("json") ? jsonLines(source, args) : textLines(source, args);
    await writeLines(process.stdout, lines);
    return ExitStatus.Ok;
  },
};
