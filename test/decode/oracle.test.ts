import { describe, expect, it } from "vitest";
import { Oracle } from "../../scripts/decode-oracle/compare.ts";
import { encodings } from "../../scripts/decode-oracle/encodings.ts";

// `npm run oracle:decode` compares them all
describe("decoder and disassembler against iced-x86", () => {
  const oracle = new Oracle();

  it.each([16, 32, 64] as const)("agree on a sample of every opcode in %i-bit code", (mode) => {
    const found: string[] = [];
    let compared = 0;
    for (const encoding of encodings({ modes: [mode], every: 401, seed: mode })) {
      compared++;
      const line = oracle.compare(encoding);
      if (line) found.push(line);
    }
    expect(compared).toBeGreaterThan(20_000);
    expect(found).toEqual([]);
  });

  it("sees a wrong length and a wrong operand", () => {
    // without the last byte of the displacement the text differs
    const bytes = Uint8Array.of(0x8b, 0x44, 0x24, 0x10, ...Array<number>(11).fill(0x90));
    expect(oracle.compare({ mode: 64, bytes })).toBeUndefined();
    expect(oracle.compare({ mode: 64, bytes }, (text) => text.replace("0x10", "0x11"))).toContain("text");
    expect(oracle.compare({ mode: 64, bytes }, undefined, 1)).toContain("length");
  });
});
