import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { generated } from "../../scripts/generate.ts";

describe("files that follow from the opcode table", () => {
  it.each([...generated()])("%s equals a fresh generation", (path, text) => {
    expect(readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")).toBe(text);
  });

  it("leave no opcode without a handler", () => {
    const read = (path: string): string => readFileSync(new URL(`../../assembly/${path}`, import.meta.url), "utf8");
    const rows = read("execute/execute.generated.ts");
    const handlerOf = /memory\.data<u16>\(\[([^\]]*)\]/.exec(rows)![1]!.split(",").map(Number);
    const handlers = new Set([...handlerOf.keys()].filter((op) => handlerOf[op] !== 0xffff));
    // a short form that cannot fail needs no whole handler
    const forms = read("decode/fast.generated.ts");
    const [either, others, end] = ["EITHER", "OTHERS", "END"].map((name) =>
      Number(new RegExp(`FAST_${name}: u32 = (\\d+)`).exec(forms)![1]),
    );
    const formOf = /memory\.data<u8>\(\[([^\]]*)\]/.exec(forms)![1]!.split(",").map(Number);
    for (const [op, f] of formOf.entries()) if (f > 0 && f < end! && !(f >= either! && f < others!)) handlers.add(op);
    const table = generated().get("assembly/decode/table.generated.ts")!;
    const [bytes, shapes] = [...table.matchAll(/memory\.data<u8>\(\[([^\]]*)\]/g)].map((m) =>
      m[1]!.split(",").map(Number),
    );
    const missing = [];
    // entry: op 0-1, shape 2; shape: format 0, feature 1, flags 2-5; bit 16 of the flags: a node
    for (let i = 0; i + 3 <= bytes!.length; i += 3) {
      const op = bytes![i]! | (bytes![i + 1]! << 8);
      if (!(shapes![bytes![i + 2]! * 6 + 4]! & 1) && !handlers.has(op)) missing.push(op);
    }
    expect(missing).toEqual([]);
  });
});
