// Runs cases on the emulator, in the same window, and compares.
import { GPR_NAMES } from "../../src/core/index.ts";
import type { Case } from "./cases.ts";
import {
  AREA,
  IN_FRAME,
  IN_FS_BASE,
  IN_SELECTORS,
  IN_SIZE,
  makeKernel,
  OUT_CR2,
  OUT_FRAME,
  OUT_SIZE,
  WINDOW_AT,
} from "./kernel.ts";
import {
  BASE,
  CODE,
  CODE_AT,
  CODE_SIZE,
  DATA,
  IMAGE_SIZE,
  MAX_CODE,
  REACHED_END,
  READ_ONLY,
  SELECTOR,
  STUB_OF,
} from "./layout.ts";
import type { Result } from "./result.ts";
import { initialImage } from "./state.ts";

/** An upper bound far above any case: the longest REP runs through both data pages. */
const MAX_WORK = 1_000_000;
const PAGE_FAULT = 14;
/** Where Linux's part of the address space begins. */
const TASK_SIZE = 0x7fff_ffff_f000n;
const FETCH_BY_USER = 0x14;
const RF = 0x10000;
const PREFIXES = new Set([0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3]);

export class Replayer {
  /** The machine a case runs on, for tests that change its page tables. */
  readonly kernel = makeKernel();
  readonly #kernel = this.kernel;
  readonly #initial = initialImage();
  readonly #initialWords = new Int32Array(this.#initial.buffer);
  readonly #area = new DataView(new ArrayBuffer(IN_SIZE));
  readonly #areaBytes = new Uint8Array(this.#area.buffer);
  #lastAt = CODE_AT;

  constructor() {
    const { machine } = this.#kernel;
    machine.writeMemory(WINDOW_AT + CODE, new Uint8Array(CODE_SIZE).fill(0xcc));
    machine.writeMemory(WINDOW_AT + READ_ONLY, this.#initial);
  }

  /** `keep` leaves the data pages as the case left them, for the next one to go on with. */
  run(c: Case, keep = false): Result {
    const { machine, enter, enter64 } = this.#kernel;
    this.#writeCode(c);
    if (c.patch.length) machine.writeMemory(WINDOW_AT + c.patchAt, c.patch);
    this.#writeArea(c);
    machine.registers.rip = c.bits === 64 ? enter64 : enter;
    const exit = machine.run({ maxWork: MAX_WORK });
    if (exit.reason !== "halt") throw new Error(`a case ended with ${exit.reason}`);
    return this.#result(c, keep);
  }

  /** Puts the data pages back after a run that kept them. */
  reset(): void {
    this.#changes(false);
  }

  #writeCode(c: Case): void {
    const { machine } = this.#kernel;
    const size = MAX_CODE + 8;
    const write = (at: number, bytes: Uint8Array): void =>
      machine.writeMemory(WINDOW_AT + at, at + bytes.length > CODE_SIZE ? bytes.subarray(0, CODE_SIZE - at) : bytes);
    const text = new Uint8Array(size).fill(0xcc);
    if (this.#lastAt !== c.at) write(this.#lastAt, text);
    this.#lastAt = c.at;
    text.set(c.code);
    let end = c.code.length;
    if (c.bits === 16) text[end++] = 0x66;
    text[end++] = 0xe9;
    const displacement = STUB_OF[c.bits] - (c.at + end + 4);
    for (let i = 0; i < 4; i++) text[end++] = displacement >> (8 * i);
    write(c.at, text);
  }

  #writeArea(c: Case): void {
    const { state } = c;
    const area = this.#area;
    for (let r = 0; r < 16; r++) area.setBigUint64(8 * r, state.gpr[r]!, true);
    area.setBigUint64(IN_FS_BASE, state.fsBase, true);
    area.setBigUint64(IN_FS_BASE + 8, state.gsBase, true);
    const data = c.bits === 16 ? SELECTOR.data16 : SELECTOR.data;
    const code = c.bits === 16 ? SELECTOR.code16 : c.bits === 32 ? SELECTOR.code32 : SELECTOR.code64;
    const [fs, gs] = c.bits === 64 ? [0, 0] : [SELECTOR.small, SELECTOR.expandDown];
    [data, code, data, data, fs, gs].forEach((selector, i) => {
      area.setUint16(IN_SELECTORS + 2 * i, selector, true);
    });
    const rip = c.bits === 16 ? c.at : BASE + c.at;
    [BigInt(rip), BigInt(code), BigInt(state.rflags), state.gpr[4]!, BigInt(data)].forEach((value, i) => {
      area.setBigUint64(IN_FRAME + 8 * i, value, true);
    });
    this.#kernel.machine.writeMemory(AREA, this.#areaBytes);
  }

  /** The words of the data pages that changed; puts them back. */
  #changes(keep: boolean): Result["words"] {
    const { machine } = this.#kernel;
    const at = DATA - READ_ONLY;
    const now = machine.readMemory(WINDOW_AT + DATA, IMAGE_SIZE - at);
    const numbers = new Int32Array(now.buffer);
    const was = this.#initialWords;
    const words: { index: number; value: bigint }[] = [];
    const first = at >> 2;
    let view: DataView | undefined;
    for (let i = 0; i < numbers.length; i += 2) {
      if (numbers[i] === was[first + i] && numbers[i + 1] === was[first + i + 1]) continue;
      view ??= new DataView(now.buffer);
      words.push({ index: (first + i) >> 1, value: view.getBigUint64(4 * i, true) });
    }
    if (words.length && !keep) machine.writeMemory(WINDOW_AT + DATA, this.#initial.subarray(at));
    return words;
  }

  #result(c: Case, keep: boolean): Result {
    const bytes = this.#kernel.machine.readMemory(AREA, OUT_SIZE);
    const view = new DataView(bytes.buffer);
    const frame = (i: number): bigint => view.getBigUint64(OUT_FRAME + 8 * i, true);
    const gpr = new BigUint64Array(16);
    for (let r = 0; r < 16; r++) gpr[r] = view.getBigUint64(8 * r, true);
    gpr[4] = frame(5);
    const selectors = new Uint16Array(6);
    for (let s = 0; s < 6; s++) selectors[s] = view.getUint16(IN_SELECTORS + 2 * s, true);
    selectors[1] = Number(frame(3) & 0xffffn);
    selectors[2] = Number(frame(6) & 0xffffn);
    let vector = Number(frame(0));
    let error = Number(frame(1) & 0xffffffffn);
    let rip = frame(2);
    let cr2 = vector === PAGE_FAULT ? view.getBigUint64(OUT_CR2, true) : 0n;
    const out = BigInt(BASE + STUB_OF[c.bits]);
    if (vector === PAGE_FAULT && error === FETCH_BY_USER && cr2 === out) {
      vector = REACHED_END;
      error = 0;
      rip = 0n;
      cr2 = 0n;
      selectors[1] = 0;
    }
    return { vector, error, cr2, rip, gpr, rflags: Number(frame(4)), selectors, words: this.#changes(keep) };
  }
}

const SEGMENTS = ["es", "cs", "ss", "ds", "fs", "gs"];
const hex = (value: bigint | number): string => value.toString(16);

/** Opcode of the instruction that faulted, and the byte after it. */
function faulting(c: Case, native: Result): readonly [number, number] {
  let at = Number(native.rip & 0xffffn) - c.at;
  while (at < c.code.length && PREFIXES.has(c.code[at]!)) at++;
  if (c.bits === 64 && (c.code[at]! & 0xf0) === 0x40) at++;
  return [c.code[at] ?? 0, c.code[at + 1] ?? 0];
}

/**
 * ENTER, PUSHA and CALL that fault may have stored below the stack pointer: processors do, the emulator does not. Software
 * can't rely on either.
 */
function belowStack(c: Case, native: Result): ((index: number) => boolean) | undefined {
  const [opcode, modrm] = faulting(c, native);
  const call = opcode === 0xe8 || opcode === 0x9a || (opcode === 0xff && [0x10, 0x18].includes(modrm & 0x38));
  if (!call && opcode !== 0xc8 && opcode !== 0x60) return undefined;
  const sp = c.bits === 16 ? Number(native.gpr[4]! & 0xffffn) : Number(native.gpr[4]! & 0xffffffffn) - BASE;
  const top = sp - READ_ONLY;
  return (index) => index * 8 < top && index * 8 >= top - 32 * 8 - 8;
}

/** POPA that faults half-way has loaded some registers on a processor, none on the emulator; it starts again. */
const POPA = 0x61;

/** What differs, in words: empty where the emulator agrees with the processor. */
export function differences(c: Case, native: Result, emulated: Result): string[] {
  const out: string[] = [];
  const say = (what: string, a: bigint | number, b: bigint | number): void => {
    if (a !== b) out.push(`${what}: processor ${hex(a)}, emulator ${hex(b)}`);
  };
  say("vector", native.vector, emulated.vector);
  const ignored = native.rip === emulated.rip && native.vector !== REACHED_END ? belowStack(c, native) : undefined;
  if (native.vector !== emulated.vector) return out;
  // Linux reports every fault on a kernel address as one on a present page
  const kernel = native.vector === PAGE_FAULT && native.cr2 >= TASK_SIZE;
  say("error code", kernel ? native.error | 1 : native.error, kernel ? emulated.error | 1 : emulated.error);
  say("cr2", native.cr2, emulated.cr2);
  say("rip", native.rip, emulated.rip);
  // bits 63:32 are undefined once a far transfer has left 64-bit mode
  const wide = c.bits === 64 && [0, SELECTOR.code64].includes(native.selectors[1]!);
  const mask = wide ? (1n << 64n) - 1n : 0xffffffffn;
  const popa = native.vector !== REACHED_END && faulting(c, native)[0] === POPA;
  for (let r = 0; r < (c.bits === 64 ? 16 : 8); r++)
    if (!popa || r === 4) say(GPR_NAMES[r]!, native.gpr[r]! & mask, emulated.gpr[r]! & mask);
  const ended = native.vector === REACHED_END;
  const compared = ~(ended ? c.undefinedAtEnd | RF : c.undefinedAnywhere);
  say("rflags", (native.rflags & compared) >>> 0, (emulated.rflags & compared) >>> 0);
  // the kernel's return to the harness makes every null selector 0
  const selector = (value: number): number => (value & ~3 ? value : 0);
  for (let s = 0; s < 6; s++) say(SEGMENTS[s]!, selector(native.selectors[s]!), selector(emulated.selectors[s]!));
  const words = new Map(native.words.filter((w) => !ignored?.(w.index)).map((w) => [w.index, w.value]));
  for (const w of emulated.words) {
    if (ignored?.(w.index)) continue;
    say(`memory ${hex(BASE + READ_ONLY + w.index * 8)}`, words.get(w.index) ?? -1, w.value);
    words.delete(w.index);
  }
  for (const [index, value] of words) say(`memory ${hex(BASE + READ_ONLY + index * 8)}`, value, -1);
  return out;
}
