/** Compares the core's decoder and the disassembler with iced-x86, one encoding at a time. */
import {
  Code,
  CpuidFeature,
  Decoder,
  DecoderOptions,
  Formatter,
  FormatterSyntax,
  Instruction,
  MemorySizeOptions,
  Mnemonic,
} from "iced-x86";
import { COMM_BYTES } from "../../assembly/abi/run.ts";
import { ModeBit } from "../../assembly/abi/state.ts";
import { Core } from "../../src/core/index.ts";
import { disassemble } from "../../src/disasm/index.ts";
import { BUILT_FEATURES, BUILT_MNEMONICS, CHECKED_LATER, NOISE, OLDER_MEANING } from "./differences.ts";
import type { Encoding } from "./encodings.ts";

const ADDRESS = 0x1000n;
const MODES = {
  16: ModeBit.Protected,
  32: ModeBit.Protected | ModeBit.Code32,
  64: ModeBit.Protected | ModeBit.LongMode | ModeBit.Code64,
} as const;

type Kind = "built" | "older" | "x87" | "no";

export class Oracle {
  readonly #core = new Core(16);
  readonly #instruction = new Instruction();
  readonly #formatter: Formatter;
  readonly #built = new Map<number, Kind>();

  constructor() {
    const f = new Formatter(FormatterSyntax.Intel);
    f.hexPrefix = "0x";
    f.hexSuffix = "";
    f.uppercaseHex = false;
    f.spaceAfterOperandSeparator = true;
    f.memorySizeOptions = MemorySizeOptions.Always;
    f.smallHexNumbersInDecimal = false;
    f.branchLeadingZeros = false;
    f.displacementLeadingZeros = false;
    f.leadingZeros = false;
    f.showBranchSize = false;
    f.usePseudoOps = false;
    this.#formatter = f;
  }

  #class(code: number): Kind {
    let known = this.#built.get(code);
    if (known === undefined) {
      const features = [...this.#instruction.cpuidFeatures()].map((x) => CpuidFeature[x]!);
      const mnemonic = Mnemonic[this.#instruction.mnemonic]!.toLowerCase();
      if (features.some((x) => x.startsWith("FPU"))) known = "x87";
      else if (mnemonic in OLDER_MEANING) known = "older";
      else if (BUILT_MNEMONICS.includes(mnemonic)) known = "built";
      else known = features.every((x) => BUILT_FEATURES.includes(x)) ? "built" : "no";
      this.#built.set(code, known);
    }
    return known;
  }

  /** A line that says what differs, or undefined. `spoil` and `skew` make the disassembler and the decoder wrong, to test this. */
  compare({ mode, bytes }: Encoding, spoil = (text: string) => text, skew = 0): string | undefined {
    const decoder = new Decoder(mode, bytes, DecoderOptions.None);
    decoder.ip = ADDRESS;
    decoder.decodeOut(this.#instruction);
    decoder.free();
    const instruction = this.#instruction;
    const { code, length } = instruction;
    const kind = code === Code.INVALID ? "no" : this.#class(code);

    this.#core.u8.set(bytes, COMM_BYTES);
    const answer = this.#core.exports.decodeOnly(15, MODES[mode]) + skew;
    const valid = (answer & 0x300) === 0;
    const ours = disassemble(bytes, { mode, address: ADDRESS });
    const report = (what: string): string =>
      `${mode} ${hex(bytes)} ${what}; iced: ${length} ${code === Code.INVALID ? "(bad)" : `${this.#formatter.format(instruction)} [${Code[code]}]`}; core: ${answer & 255} ${valid}; disasm: ${ours.length} ${ours.text}`;

    if (isX87(mode, bytes, instruction)) {
      if (kind === "x87" && (answer & 255) !== length) return report("length");
      return undefined;
    }
    if (kind === "no" && CHECKED_LATER.test(ours.text)) return undefined;
    if (kind === "no")
      return valid
        ? report("valid")
        : ours.valid && ours.mnemonic !== "simd" && !isUd(ours.mnemonic)
          ? report("disasm valid")
          : undefined;
    if (!valid) return report("invalid");
    if ((answer & 255) !== length) return report("length");
    if (ours.length !== length || !ours.valid) return report("disasm length");
    if (kind === "older") return undefined;
    const theirs = normalise(this.#formatter.format(instruction));
    const text = normalise(spoil(ours.text));
    return text === theirs ? undefined : report("text");
  }
}

const UD = ["xend", "xtest", "getsec", "fxsave", "fxrstor", "ldmxcsr", "stmxcsr"];
function isUd(mnemonic: string): boolean {
  return UD.includes(mnemonic);
}

/** x87 escapes, with or without FWAIT before them in iced-x86's eyes. */
function isX87(mode: number, bytes: Uint8Array, _i: Instruction): boolean {
  let at = 0;
  while (
    [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3].includes(bytes[at]!) ||
    (mode === 64 && (bytes[at]! & 0xf0) === 0x40)
  )
    at++;
  return (bytes[at]! & 0xf8) === 0xd8;
}

/** One form for texts that mean the same. */
export function normalise(text: string): string {
  return (
    text
      .replace(NOISE, "")
      // a repeat prefix counts with string instructions only
      .replace(/^(rep|repe|repne) (?!(movs|cmps|stos|lods|scas|ins|outs)[bwdq])/, "")
      // a far pointer: selector:offset, or offset, selector
      .replace(/^((?:call|jmp) far) (0x[0-9a-f]+), (0x[0-9a-f]+)$/, "$1 $3:$2")
      // the destination of a string instruction is always in ES
      .replace(/es:(\[[er]?di\])/, "$1")
      // its segment and address size are no operand
      .replace(/^[c-gs]s monitor/, "monitor")
      .replace(/^prefetch_exclusive/, "prefetch")
      .replace(/0x0+(?=[0-9a-f])/g, "0x")
      .replace(/ {2,}/g, " ")
      .trim()
  );
}

export function hex(bytes: Uint8Array): string {
  return [...bytes].map((b) => b.toString(16).padStart(2, "0")).join("");
}
