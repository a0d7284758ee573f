import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { parseImage, type StartMode } from "../../src/index.ts";
import { generator, lockstep } from "./lockstep.ts";

interface Guest {
  readonly name: string;
  readonly file: string;
  readonly mode: StartMode;
  readonly load?: number;
  readonly entry?: number;
}

const folder = new URL("../../fixtures/guests/", import.meta.url);
const all = JSON.parse(readFileSync(new URL("manifest.json", folder), "utf8")) as Guest[];

/** The sweeps of straight-line code have little that repeats, and make thousands of modules when every block counts as hot. */
const guests = all.filter(({ name }) => !name.startsWith("isa-") && name !== "hypervisor" && name !== "rep-forever");

describe("generated code and interpreter in lock-step", () => {
  it.each(guests.map((g) => [g.name, g] as const))("%s", (_name, guest) => {
    const image = parseImage(new Uint8Array(readFileSync(new URL(guest.file, folder))), {
      mode: guest.mode,
      ...(guest.load === undefined ? {} : { load: guest.load }),
      ...(guest.entry === undefined ? {} : { entry: guest.entry }),
    });
    const random = generator(7);
    expect(lockstep(image, () => 1 + random(20_000), 300_000, 16 << 20)).toBeGreaterThan(0);
  });
});
