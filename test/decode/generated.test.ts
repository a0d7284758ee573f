import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { generated } from "../../scripts/generate.ts";

describe("files that follow from the opcode table", () => {
  it.each([...generated()])("%s equals a fresh generation", (path, text) => {
    expect(readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")).toBe(text);
  });

  it("leave no opcode without a handler", () => {
    const rows = readFileSync(new URL("../../assembly/execute/dispatch.generated.ts", import.meta.url), "utf8");
    expect(rows.match(/stopHost\(RunCode\.Unimplemented\)/g)).toHaveLength(1);
    const table = generated().get("assembly/decode/table.generated.ts")!;
    const bytes = /memory\.data<u8>\(\[([^\]]*)\]/.exec(table)![1]!.split(",").map(Number);
    const todo = [];
    // entry: op 0-1, format 2, feature 3, flags 4-7; bit 16 of the flags: a node
    for (let i = 0; i + 8 <= bytes.length; i += 8) {
      if (!(bytes[i + 6]! & 1) && bytes[i] === 1 && bytes[i + 1] === 0) todo.push(i);
    }
    expect(todo).toEqual([]);
  });
});
