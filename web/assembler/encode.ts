// An instruction of the source -> bytes, by the rows of the opcode table: what src/disasm does, the other way round.
import { type AddressBytes, AddressError, encodeAddress } from "./address.ts";
import { LineError } from "./errors.ts";
import { formText } from "./form-text.ts";
import { type Fields, letterSize, matches } from "./match.ts";
import { FIXED, FORMS, type Form, type Mode } from "./names.ts";
import type { Operand } from "./operand.ts";

export interface Instruction {
  readonly name: string;
  readonly column: number;
  /** Bytes of LOCK, REP and segment prefixes, as written. */
  readonly prefixes: readonly number[];
  /** Operand and address size in bytes that o16, a32 and the like ask for; 0: none. */
  readonly operandSize: number;
  readonly addressSize: number;
  readonly operands: readonly Operand[];
}

interface Context {
  readonly mode: Mode;
  readonly address: bigint;
  /** The instruction was that long in the pass before; it never shrinks again. */
  readonly atLeast: number;
}

interface Candidate {
  readonly bytes: readonly number[];
  /** Lower is better among equal lengths. */
  readonly rank: number;
  /** Size of an unsized memory operand under this reading; 0: it does not matter. */
  readonly memorySize: number;
}

const SEGMENT_BYTES = [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65];
const ESCAPES = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]];
/** Maps from here on are VEX-encoded. */
const FIRST_VEX = 4;
/** JCXZ, JECXZ, JRCXZ: the name says the address size. */
const COUNTER = /^jcxz/;
const MANDATORY = [undefined, 0x66, 0xf3, 0xf2];
/** They look at 16 bits of their source whatever its size. */
const LOOSE = new Set(["mov", "lar", "lsl"]);
/** Advantage of a sign-extended byte over another form of the same length. */
const SHORT_IMMEDIATE = 500;
const SIZED = /^(?:[EGZRIMOB](?:v|z|y|u|n|bs|a|p|x)|RvMw|rAX|eAX|Ap)$/;

function little(value: bigint, width: number): number[] {
  return Array.from({ length: width }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

/** Operand sizes to try, the default one first. */
function sizesOf(form: Form, mode: Mode, instruction: Instruction): number[] {
  const { attributes, tokens } = form;
  const has = (name: string): boolean => attributes.has(name);
  const standard = mode === 16 ? 2 : 4;
  if (has("natural")) return [mode === 64 ? 8 : 4];
  const forced = instruction.operandSize || (COUNTER.test(form.row[7]) ? 0 : form.size);
  const all = mode === 16 ? [2, 4] : mode === 32 ? [4, 2] : has("d64") || has("f64") ? [8, 2] : [4, 8, 2];
  const usable = all.filter((size) => !(size === 8 && has("noq")) && !(size === 2 && mode === 64 && has("f64")));
  if (forced) return form.string && forced === 1 ? [standard] : usable.filter((size) => size === forced);
  if (tokens.some((token) => token.endsWith("y"))) return mode === 64 ? [4, 8] : [4];
  const branch = instruction.operands.find((operand) => operand.kind === "immediate" && has("f64"));
  if (branch?.kind === "immediate" && branch.size > 1) return usable.filter((size) => size === branch.size);
  const far = tokens.includes("Mp") && instruction.operands.length === 1;
  if (far) return usable;
  if (!tokens.some((token) => SIZED.test(token))) return usable.slice(0, 1);
  const [only] = instruction.operands;
  const alone =
    instruction.operands.length === 1 && (only?.kind === "immediate" || only?.kind === "far") && only.size < 2;
  if (form.plain || alone) return usable.slice(0, 1);
  // a near branch has the mode's size unless its operand says another one
  const open = only?.kind === "immediate" || (only?.kind === "memory" && only.size === 0);
  if (has("f64") && open) return usable.slice(0, 1);
  return usable;
}

/** Prefix bytes, and REX.W, that give the operand size; undefined when nothing does. */
function sizePrefix(form: Form, size: number, mode: Mode): { byte66: boolean; w: boolean } | undefined {
  const { attributes, tokens } = form;
  if (attributes.has("natural")) return { byte66: false, w: false };
  const narrow = tokens.some((token) => token.endsWith("y"));
  if (mode === 64) {
    const standard = attributes.has("f64") || attributes.has("d64") ? 8 : 4;
    if (size === standard) return { byte66: false, w: false };
    if (size === 8) return { byte66: false, w: true };
    return size === 2 ? { byte66: true, w: false } : undefined;
  }
  return { byte66: !narrow && (mode === 32 ? size === 2 : size === 4), w: false };
}

/** Mandatory prefix of the row: an index into MANDATORY. undefined: the row does not stand with 66. */
function mandatoryOf(row: Form["row"], byte66: boolean): number | undefined {
  const mask = row[5];
  if (mask & 1) return byte66 && !(mask & 2) ? undefined : 0;
  if (mask === 2) return 1;
  return mask & 4 ? 2 : 3;
}

interface Shape {
  readonly rex: number;
  readonly needsRex: boolean;
  readonly modrm: number | undefined;
  readonly address: AddressBytes | undefined;
}

function shapesOf(form: Form, fields: Fields, w: boolean, mode: Mode, forced: number): Shape[] {
  const [, , digit, rmDigit] = form.row;
  const reg = fields.reg ?? (digit >= 0 ? digit : undefined);
  const rex = (w ? 8 : 0) | ((fields.reg ?? 0) >= 8 ? 4 : 0);
  const hasModrm = reg !== undefined || fields.rm !== undefined || rmDigit >= 0;
  const needsRex = fields.rex === true;
  if (!hasModrm) {
    return [{ rex: rex | ((fields.opcodeRegister ?? 0) >= 8 ? 1 : 0), needsRex, modrm: undefined, address: undefined }];
  }
  const regBits = ((reg ?? 0) & 7) << 3;
  if (typeof fields.rm === "object") {
    return encodeAddress(fields.rm.address, mode, forced).map((address) => ({
      rex: rex | address.rex,
      needsRex,
      modrm: address.modrm | regBits,
      address,
    }));
  }
  const rm = fields.rm ?? (rmDigit >= 0 ? rmDigit : 0);
  return [{ rex: rex | (rm >= 8 ? 1 : 0), needsRex, modrm: 0xc0 | regBits | (rm & 7), address: undefined }];
}

/** C5 where it can say it, else C4. @sdm 2A "Vector Extension (VEX)" */
function vexBytes(map: number, rex: number, vvvv: number, pp: number): number[] {
  const low = ((~vvvv & 15) << 3) | pp;
  if (map === FIRST_VEX && !(rex & 11)) return [0xc5, ((~rex & 4) << 5) | low];
  return [0xc4, ((~rex & 7) << 5) | (map - FIRST_VEX + 1), ((rex & 8) << 4) | low];
}

class Encoder {
  readonly #candidates: Candidate[] = [];
  #why = "";

  constructor(
    readonly instruction: Instruction,
    readonly context: Context,
  ) {}

  /** Tries a row with the operands in this order. */
  try(form: Form, operands: readonly Operand[], rank: number): void {
    const { mode } = this.context;
    const [, , , , mod, , long] = form.row;
    if (long === (mode === 64 ? 1 : 2)) return;
    const written = form.string || form.tokens[0] === "XL" ? [] : form.tokens;
    if (written.length !== operands.length) return;
    if (COUNTER.test(form.row[7]) && form.size === (mode === 64 ? 2 : 8)) return;
    if (mode === 64 && written.some((token) => token[0] === "O")) return;
    const row = { opcode: form.row[1], loose: LOOSE.has(form.row[7]) && written[0] !== "RvMw" };
    for (const size of sizesOf(form, mode, this.instruction)) {
      const fields: Fields = { immediates: [] };
      if (!written.every((token, i) => matches(token, operands[i]!, size, fields, row))) continue;
      // 90 is NOP, which zero-extends nothing
      if (
        form.row[7] === "nop" &&
        this.instruction.name === "xchg" &&
        mode === 64 &&
        size === 4 &&
        fields.opcodeRegister === 0
      )
        continue;
      if (written.length === 1 && written[0]![0] === "I" && !pushSize(operands[0]!, written[0]!, size)) continue;
      const memory = typeof fields.rm === "object";
      if ((mod === 1 && !memory) || (mod === 2 && memory)) continue;
      this.#build(form, written, fields, size, rank - (written.includes("Ibs") ? SHORT_IMMEDIATE : 0));
    }
  }

  #build(form: Form, written: readonly string[], fields: Fields, operandSize: number, rank: number): void {
    const { instruction, context } = this;
    const { mode } = context;
    // REX.W changes nothing where a selector is stored: its upper bits are zeros anyway
    const selector = written.includes("Sw") || instruction.name === "sldt";
    const size = operandSize === 8 && selector ? 4 : operandSize;
    const byte = written.some((token) => token[1] === "b" && token.length === 2 && /[EGZMO]/.test(token[0]!));
    const fixed = byte && !written.some((token) => SIZED.test(token) && !/^I/.test(token));
    const sized = fixed || (form.string && form.size === 1) ? undefined : sizePrefix(form, size, mode);
    if (!fixed && !(form.string && form.size === 1) && sized === undefined) return;
    const { byte66, w } = sized ?? { byte66: false, w: false };
    const [map, opcode] = form.row;
    const mandatory = mandatoryOf(form.row, byte66);
    if (mandatory === undefined) return;
    const direct = written.some((token) => token[0] === "O");
    let shapes: Shape[];
    try {
      shapes = direct
        ? [directShape(fields, mode, instruction.addressSize)]
        : shapesOf(form, fields, w, mode, instruction.addressSize);
    } catch (error) {
      if (!(error instanceof AddressError)) throw error;
      this.#why = error.message;
      return;
    }
    const unsized = typeof fields.rm === "object" && fields.rm.size === 0;
    const memorySize = unsized ? memorySizeOf(written, size) : 0;
    for (const shape of shapes) {
      const { address } = shape;
      if (shape.rex !== 0 && mode !== 64) {
        this.#why = "registers R8 to R15 exist in 64-bit code only";
        continue;
      }
      if (shape.needsRex && mode !== 64) {
        this.#why = "SPL, BPL, SIL and DIL exist in 64-bit code only";
        continue;
      }
      if (fields.high && (shape.rex !== 0 || shape.needsRex)) {
        this.#why = "AH, BH, CH and DH cannot stand beside a register that needs a REX prefix";
        continue;
      }
      const segment = typeof fields.rm === "object" ? fields.rm.address.segment : -1;
      const counter = COUNTER.test(form.row[7]) ? form.size : 0;
      const wanted = counter || instruction.addressSize;
      const prefix67 = address ? address.prefix : wanted !== 0 && wanted !== (mode === 64 ? 8 : mode / 8);
      const vex = map >= FIRST_VEX;
      const bytes = [...instruction.prefixes];
      if (segment >= 0) bytes.push(SEGMENT_BYTES[segment]!);
      if (byte66 && counter === 0 && mandatory !== 1) bytes.push(0x66);
      if (prefix67) bytes.push(0x67);
      if (mandatory > 0 && !vex) bytes.push(MANDATORY[mandatory]!);
      if (vex) bytes.push(...vexBytes(map, shape.rex, fields.vvvv ?? 0, mandatory));
      else {
        if (shape.rex !== 0 || shape.needsRex) bytes.push(0x40 | shape.rex);
        bytes.push(...ESCAPES[map]!);
      }
      bytes.push(opcode);
      if (shape.modrm !== undefined) bytes.push(shape.modrm);
      if (address?.sib !== undefined) bytes.push(address.sib);
      const immediates = fields.immediates.reduce((sum, { width }) => sum + width, 0);
      const length = bytes.length + (address?.width ?? 0) + immediates;
      const next = context.address + BigInt(length);
      if (address)
        bytes.push(...little(address.relative ? address.displacement - next : address.displacement, address.width));
      let reachable = true;
      for (const { value, known, width, branch } of fields.immediates) {
        let shown = value;
        if (branch) {
          const distance = value - next;
          shown =
            mode === 16 || size === 2 ? BigInt.asIntN(16, distance) : BigInt.asIntN(mode === 32 ? 32 : 64, distance);
          if (known && BigInt.asIntN(8 * width, shown) !== shown) reachable = false;
        }
        bytes.push(...little(shown, width));
      }
      if (!reachable) {
        this.#why = "the target is too far away for this jump";
        continue;
      }
      this.#candidates.push({ bytes, rank, memorySize });
    }
  }

  /** The shortest that is at least as long as before. */
  choose(): readonly number[] {
    const { atLeast } = this.context;
    const sizes = new Set(this.#candidates.map(({ memorySize }) => memorySize));
    if (sizes.size > 1) {
      const names = [...sizes].sort((a, b) => a - b).map((size) => SIZE_WORDS[size] ?? `${size} bytes`);
      const memory = this.instruction.operands.find((operand) => operand.kind === "memory")!;
      throw new LineError(`say the size of the memory operand: ${names.join(", ")}`, memory.column, memory.length);
    }
    const usable = this.#candidates.filter(({ bytes }) => bytes.length >= atLeast);
    const [first] = usable.sort((a, b) => a.bytes.length - b.bytes.length || a.rank - b.rank);
    if (first) return first.bytes;
    const { name, column } = this.instruction;
    throw new LineError(this.#why || wrongOperands(this.instruction, this.context.mode), column, name.length);
  }
}

const SIZE_WORDS: Readonly<Record<number, string>> = { 1: "byte", 2: "word", 4: "dword", 8: "qword", 16: "oword" };

/** An immediate alone (PUSH): its size is the operand's. */
function pushSize(operand: Operand, token: string, size: number): boolean {
  if (operand.kind !== "immediate" || operand.size === 0) return true;
  return operand.size === 1 ? token === "Ibs" || token === "Ib" : operand.size === size;
}

function memorySizeOf(written: readonly string[], size: number): number {
  const token = written.find((one) => /^(?:[EMO]|RvMw)/.test(one));
  if (token === undefined || token === "RvMw" || token === "M" || token === "Ml" || token === "Mp") return 0;
  return letterSize(token.slice(1), size);
}

function directShape(fields: Fields, mode: Mode, forced: number): Shape {
  const { address } = fields.rm as Extract<Operand, { kind: "memory" }>;
  const width = forced || (mode === 16 ? 2 : 4);
  const { value, known } = address.displacement;
  if (known && (value < 0n || value >> BigInt(8 * width) !== 0n)) {
    throw new AddressError(`address 0x${value.toString(16)} does not fit into ${8 * width} bits`);
  }
  const prefix = width !== (mode === 16 ? 2 : 4);
  const bytes: AddressBytes = { modrm: 0, sib: undefined, displacement: value, width, rex: 0, prefix, relative: false };
  return { rex: 0, needsRex: false, modrm: undefined, address: bytes };
}

function wrongOperands({ name, operands }: Instruction, mode: Mode): string {
  const forms = FORMS.get(name) ?? [];
  const here = forms.filter(({ row }) => row[6] !== (mode === 64 ? 1 : 2));
  if (here.length === 0) return `${name} does not exist in ${mode}-bit code`;
  const texts = [...new Set(here.map((form) => formText(name, form)))];
  const shown = texts.slice(0, 6).join("; ") + (texts.length > 6 ? "; ..." : "");
  return `${name} does not take ${operands.length === 0 ? "no operands" : "these operands"}. There are: ${shown}`;
}

/** Sizes of a memory operand may be written at the immediate: mov [rdi], byte 0. */
function sharedSize(operands: readonly Operand[]): readonly Operand[] {
  const immediate = operands.find((operand) => operand.kind === "immediate" && operand.size !== 0);
  if (immediate === undefined || immediate.kind !== "immediate") return operands;
  return operands.map((one) => (one.kind === "memory" && one.size === 0 ? { ...one, size: immediate.size } : one));
}

/** Operand orders that mean the same: nasm's first. */
function ordersOf(name: string, operands: readonly Operand[]): (readonly Operand[])[] {
  const [first, second] = operands;
  if (first === undefined || second === undefined || operands.length !== 2) return [operands];
  if (name === "xchg") return [[second, first], operands];
  if (name === "test") return [operands, [second, first]];
  if (name === "imul" && second.kind === "immediate") return [[first, first, second]];
  return [operands];
}

function checkLock(instruction: Instruction, forms: readonly Form[]): void {
  if (!instruction.prefixes.includes(0xf0)) return;
  const memory = instruction.operands.find(({ kind }) => kind === "memory");
  const lockable = forms.some(({ attributes }) => attributes.has("lock"));
  if (lockable && memory !== undefined) return;
  const { name, column } = instruction;
  throw new LineError(
    `lock is for a memory destination of ADD, XCHG and the like, not for this ${name}`,
    column,
    name.length,
  );
}

/** Encodes one instruction. LineError when the table has no such form. */
export function encode(instruction: Instruction, context: Context): readonly number[] {
  const { operands, prefixes } = instruction;
  const fixed = FIXED[instruction.name];
  if (fixed && operands.length === 0) return [...prefixes, ...fixed];
  const far = operands.some((o) => o.kind === "far" || (o.kind === "memory" && o.far));
  const name = far ? `${instruction.name} far` : instruction.name;
  const forms = FORMS.get(name);
  if (forms === undefined) {
    throw new LineError(`${instruction.name} has no far form`, instruction.column, instruction.name.length);
  }
  checkLock(instruction, forms);
  const encoder = new Encoder({ ...instruction, name }, context);
  for (const [k, order] of ordersOf(name, sharedSize(operands)).entries()) {
    for (const [i, form] of forms.entries()) encoder.try(form, order, 1000 * k + 2 * i);
  }
  special(instruction, context, encoder);
  return encoder.choose();
}

/** MOV r64 with an unsigned 32-bit value: the 32-bit form, which zero-extends. */
function special({ name, operands }: Instruction, { mode }: Context, encoder: Encoder): void {
  const [target, source] = operands;
  if (name !== "mov" || mode !== 64 || target?.kind !== "register" || source?.kind !== "immediate") return;
  const { register } = target;
  if (register.kind !== "gpr" || register.size !== 8 || source.size === 8) return;
  const { value, known } = source.value;
  if (known && (value < 0n || value >> 32n !== 0n)) return;
  const narrow: Operand = { ...target, register: { ...register, size: 4 } };
  for (const form of FORMS.get("mov")!) if (form.tokens[0] === "Zv") encoder.try(form, [narrow, source], 0);
}
