import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { generated } from "../../scripts/generate.ts";

describe("files that follow from the opcode table", () => {
  it.each([...generated()])("%s equals a fresh generation", (path, text) => {
    expect(readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")).toBe(text);
  });

  it("leave no operation without a handler", () => {
    const read = (path: string): string => readFileSync(new URL(`../../assembly/${path}`, import.meta.url), "utf8");
    const bytes = (text: string): number[] => /memory\.data<u8>\(\[([^\]]*)\]/.exec(text)![1]!.split(",").map(Number);
    const number = (text: string, name: string): number => Number(new RegExp(`${name}: u32 = (\\d+)`).exec(text)![1]);
    const cases = [...read("execute/execute.generated.ts").matchAll(/case (\d+): .*\n +(.*)/g)];
    const handled = new Set(
      cases.filter(([, , body]) => !body!.includes("unreachable")).map(([, kind]) => Number(kind)),
    );
    // a short form that cannot fail needs no whole handler
    const forms = read("decode/fast.generated.ts");
    const [either, others, end] = ["EITHER", "OTHERS", "END"].map((name) => number(forms, `FAST_${name}`));
    const cannotFail = bytes(forms).map((f) => f > 0 && f < end! && !(f >= either! && f < others!));
    // groups: kinds, members, shapes {form, forms from it to the second one << 3, sizes << 5}
    const operations = read("decode/operations.generated.ts");
    const groups = bytes(operations);
    const count = number(operations, "GROUP_COUNT");
    const missing = [];
    let op = 0;
    for (let group = 0; group < count; group++) {
      const shape = groups[2 * count + group]!;
      const size = [1, 1, 3][(shape >> 5) & 3]! * ((shape >> 3) & 3 ? 2 : 1);
      for (let i = 0; i < size; i++, op++) if (!handled.has(groups[group]!) && !cannotFail[op]) missing.push(op);
    }
    expect(op).toBe(number(operations, "OPERATION_COUNT"));
    expect(missing).toEqual([]);
  });
});
