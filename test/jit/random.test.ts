import { describe, it } from "vitest";
import { parseFlat } from "../../src/index.ts";
import { generator, lockstep } from "./lockstep.ts";
import { LOAD, program } from "./programs.ts";

describe("random programs in lock-step", () => {
  for (const [mode, wide] of [
    ["protected", false],
    ["long", true],
  ] as const) {
    for (let group = 0; group < 4; group++) {
      it(`${mode}, group ${group}`, () => {
        for (let i = 0; i < 12; i++) {
          const random = generator(1 + group * 1000 + i * 17 + (wide ? 500_000 : 0));
          const code = Uint8Array.from(program(random, wide));
          const image = parseFlat(code, { mode, load: LOAD, entry: LOAD });
          lockstep(image, () => 1 + random(2500), 30_000, 4 << 20);
        }
      });
    }
  }
});
