import { readFileSync } from "node:fs";
import { type GuestImage, parseImage, type StartMode } from "../../src/machine/index.ts";

/** A record of fixtures/guests/manifest.json. */
export interface Fixture {
  readonly name: string;
  readonly file: string;
  readonly format: "flat" | "elf";
  readonly mode: StartMode;
  readonly load?: number;
  readonly entry?: number;
  readonly expected: string;
  readonly expectedStatus: number | null;
  readonly ends: "exit" | "never";
  /** Part of the processor that the guest needs. */
  readonly needs?: "vmx";
}

const at = (path: string): URL => new URL(`../../fixtures/guests/${path}`, import.meta.url);

const ALL = JSON.parse(readFileSync(at("manifest.json"), "utf8")) as readonly Fixture[];
/** What runs on any processor, bare or as a guest. */
export const FIXTURES = ALL.filter((one) => one.needs === undefined);

export function fixture(name: string): Fixture {
  const found = ALL.find((one) => one.name === name);
  if (found === undefined) throw new Error(`no fixture ${name}`);
  return found;
}

export function imageOf({ file, format, mode, load, entry }: Fixture): GuestImage {
  const bytes = readFileSync(at(file));
  if (format === "elf") return parseImage(bytes, { mode });
  return parseImage(bytes, {
    mode,
    ...(load === undefined ? {} : { load }),
    ...(entry === undefined ? {} : { entry }),
  });
}

export function expectedConsole(one: Fixture): string {
  return readFileSync(at(one.expected), "latin1");
}
