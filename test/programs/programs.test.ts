// Compiled C programs, 32 and 64 bit at three optimisation levels: the console is that of the same source run natively.
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { loadImage, Machine, parseImage } from "../../src/index.ts";

const at = (path: string): URL => new URL(`../../fixtures/programs/${path}`, import.meta.url);
const programs = readdirSync(at("bin/")).filter((file) => file.endsWith(".elf"));

function run(file: string): { console: string; status: number | undefined } {
  const machine = new Machine({ memory: 16 << 20 });
  let console = "";
  let status: number | undefined;
  machine.onPortOut(0xe9, (_port, value) => {
    console += String.fromCharCode(value);
  });
  machine.onPortOut(0xf4, (_port, value) => {
    status = value;
    machine.stop();
  });
  loadImage(
    machine,
    parseImage(readFileSync(at(`bin/${file}`)), { mode: file.includes("-64-") ? "long" : "protected" }),
  );
  machine.run({ maxWork: 1_000_000_000 });
  return { console, status };
}

describe("programs", () => {
  it("are here in all builds", () => {
    const sources = readdirSync(at("src/")).filter((file) => file.endsWith(".c"));
    expect(programs).toHaveLength(sources.length * 6);
  });

  it.each(programs)("%s prints what it prints natively", (file) => {
    const { console, status } = run(file);
    expect(console).toBe(readFileSync(at(`expected/${file.slice(0, file.indexOf("-"))}.txt`), "latin1"));
    expect(status).toBe(0);
  });
});
