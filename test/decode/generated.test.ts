import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { generated } from "../../scripts/generate.ts";

describe("files that follow from the opcode table", () => {
  it.each([...generated()])("%s equals a fresh generation", (path, text) => {
    expect(readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")).toBe(text);
  });

  it("leave no opcode without a handler", () => {
    const rows = readFileSync(new URL("../../assembly/execute/dispatch.generated.ts", import.meta.url), "utf8");
    const handlers = new Set([...rows.matchAll(/^ +case (\d+):/gm)].map((m) => Number(m[1])));
    const table = generated().get("assembly/decode/table.generated.ts")!;
    const bytes = /memory\.data<u8>\(\[([^\]]*)\]/.exec(table)![1]!.split(",").map(Number);
    const missing = [];
    // entry: op 0-1, format 2, feature 3, flags 4-7; bit 16 of the flags: a node
    for (let i = 0; i + 8 <= bytes.length; i += 8) {
      const op = bytes[i]! | (bytes[i + 1]! << 8);
      if (!(bytes[i + 6]! & 1) && !handlers.has(op)) missing.push(op);
    }
    expect(missing).toEqual([]);
  });
});
