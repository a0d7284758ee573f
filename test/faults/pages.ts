// Runs one instruction with a page of its operands taken away, and looks at what the fault left.
import type { Case } from "../../scripts/oracle/cases.ts";
import { DATA, DATA_SIZE, REACHED_END, READ_ONLY } from "../../scripts/oracle/layout.ts";
import { Replayer } from "../../scripts/oracle/replay.ts";
import type { Result } from "../../scripts/oracle/result.ts";
import { initialImage } from "../../scripts/oracle/state.ts";

const PAGE = 4096;
const PRESENT = 1n;
const WRITE = 2n;
const ACCESSED = 0x20n;
const DIRTY = 0x40n;
const RF = 0x10000;

/** Offsets in the window of the pages that an operand may lie in. */
export const PAGES = Array.from({ length: (DATA + DATA_SIZE - READ_ONLY) / PAGE }, (_, i) => READ_ONLY + i * PAGE);

export type Denial = "not present" | "read-only";

export class FaultBench {
  readonly #replayer = new Replayer();
  readonly #entries: Map<number, bigint>;

  constructor() {
    this.#entries = new Map(PAGES.map((page) => [page, this.#read(page)]));
  }

  #read(page: number): bigint {
    const { machine, entryOf } = this.#replayer.kernel;
    return new DataView(machine.readMemory(entryOf(page), 8).buffer).getBigUint64(0, true);
  }

  /** Puts the page tables back, but for one page. */
  #deny(denied?: number, how?: Denial): void {
    const { machine, entryOf } = this.#replayer.kernel;
    const bytes = new DataView(new ArrayBuffer(8));
    for (const [page, entry] of this.#entries) {
      const mask = page !== denied ? 0n : how === "not present" ? PRESENT : WRITE;
      bytes.setBigUint64(0, entry & ~(ACCESSED | DIRTY | mask), true);
      machine.writeMemory(entryOf(page), new Uint8Array(bytes.buffer));
    }
    const { registers } = machine;
    registers.write({ cr3: registers.cr3 });
  }

  /** The result with all pages there, and the pages it used. */
  whole(c: Case): { result: Result; read: number[]; written: number[] } {
    this.#deny();
    const result = this.#replayer.run(c);
    const used = (bit: bigint): number[] => PAGES.filter((page) => (this.#read(page) & bit) !== 0n);
    return { result, read: used(ACCESSED), written: used(DIRTY) };
  }

  /** The result with one page denied; then the page comes back and the instruction goes on to the end. */
  denied(c: Case, page: number, how: Denial): { result: Result; resumed: Result | undefined } {
    this.#deny(page, how);
    const result = this.#replayer.run(c, true);
    this.#deny();
    const state = { ...c.state, gpr: result.gpr, rflags: result.rflags };
    const again = { ...c, state };
    if (result.vector !== REACHED_END) return { result, resumed: this.#replayer.run(again) };
    this.#replayer.reset();
    return { result, resumed: undefined };
  }
}

/** Words that say how two results differ; RF and RIP aside. */
export function same(a: Result, b: Result): string[] {
  const out: string[] = [];
  if (a.vector !== b.vector) out.push(`vector ${a.vector} and ${b.vector}`);
  a.gpr.forEach((value, i) => {
    if (value !== b.gpr[i]) out.push(`register ${i} ${value.toString(16)} and ${b.gpr[i]!.toString(16)}`);
  });
  if ((a.rflags & ~RF) !== (b.rflags & ~RF)) out.push(`flags ${a.rflags.toString(16)} and ${b.rflags.toString(16)}`);
  const words = (r: Result): string => r.words.map((w) => `${w.index}:${w.value.toString(16)}`).join(" ");
  if (words(a) !== words(b)) out.push(`memory ${words(a)} and ${words(b)}`);
  return out;
}

const initial = initialImage();

/** The words of the data pages that the case's patch makes different. */
function patched(c: Case): Result["words"] {
  if (!c.patch.length) return [];
  const bytes = initial.slice();
  bytes.set(c.patch, c.patchAt - READ_ONLY);
  const was = new BigUint64Array(initial.buffer);
  return [...new BigUint64Array(bytes.buffer)].flatMap((value, index) =>
    value === was[index] ? [] : [{ index, value }],
  );
}

/** How the registers, flags and memory after a fault differ from those before the case. */
export function changed(c: Case, after: Result): string[] {
  const before = { ...after, gpr: c.state.gpr, rflags: c.state.rflags, words: patched(c) };
  return same(before, after);
}
