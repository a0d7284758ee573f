// Guests of fixtures/ring0: what QEMU and Bochs said of each case, which of them is right, and what a machine says.
import { readFileSync } from "node:fs";
import { type CpuModel, loadImage, Machine, parseFlat, skylakeModel } from "../../src/index.ts";

const folder = new URL("../../fixtures/ring0/", import.meta.url);
const json = <T>(name: string): T => JSON.parse(readFileSync(new URL(name, folder), "utf8")) as T;

export interface Ring0Guest {
  readonly name: string;
  readonly file: string;
  readonly mode: "protected" | "long";
}

export interface Answer {
  readonly case: string;
  /** Lines that both print, or those of each; one of them alone where the other had gone down before. */
  readonly both?: readonly string[];
  readonly qemu?: readonly string[];
  readonly bochs?: readonly string[];
}

export interface Difference {
  readonly guest: string;
  readonly cases: readonly string[];
  /** Whose lines the manual confirms; "neither" with the lines that follow from it. */
  readonly right: "qemu" | "bochs" | "neither";
  readonly lines?: readonly string[];
  readonly why: string;
  /** Volume and section of the SDM that decides. */
  readonly sdm: string;
}

export const GUESTS = json<readonly Ring0Guest[]>("manifest.json");
export const DIFFERENCES = json<readonly Difference[]>("differences.json");
export const answersOf = (name: string): readonly Answer[] => json(`answers/${name}.json`);

export function differenceOf(guest: string, name: string): Difference | undefined {
  return DIFFERENCES.find((one) => one.guest === guest && one.cases.includes(name));
}

export const disagree = (answer: Answer): boolean => answer.qemu !== undefined && answer.bochs !== undefined;

export function expectedOf(guest: string, answer: Answer): readonly string[] | undefined {
  const difference = differenceOf(guest, answer.case);
  if (difference === undefined) return answer.both ?? (disagree(answer) ? undefined : (answer.qemu ?? answer.bochs));
  return difference.right === "neither" ? difference.lines : answer[difference.right];
}

/** The lines of each case. */
export function runRing0(
  guest: Ring0Guest,
  jit: false | number,
  cpu: CpuModel = skylakeModel(),
): Map<string, readonly string[]> {
  const machine = new Machine({ memory: 16 << 20, extraMemory: 0, jit, cpu });
  const bytes: number[] = [];
  machine.onPortOut(0xe9, (_port, value) => void bytes.push(value & 0xff));
  machine.onPortOut(0xf4, () => machine.stop());
  const image = new Uint8Array(readFileSync(new URL(guest.file, folder)));
  loadImage(machine, parseFlat(image, { mode: guest.mode, load: 0x100000, entry: 0x100000 }));
  const exit = machine.run({ maxInstructions: 10_000_000 });
  const cases = new Map<string, string[]>();
  let lines: string[] = [];
  for (const line of Buffer.from(bytes).toString("latin1").split("\n")) {
    if (line.startsWith("= ")) {
      lines = [];
      cases.set(line.slice(2), lines);
    } else if (line !== "") lines.push(line.trimEnd());
  }
  if (exit.reason !== "stopped") lines.push(`ended: ${exit.reason}`);
  return cases;
}
