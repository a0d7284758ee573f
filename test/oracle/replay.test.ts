// Cases recorded on a real processor, replayed.
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { unpack } from "../../scripts/oracle/fixture.ts";
import { differences, Replayer } from "../../scripts/oracle/replay.ts";

const folder = new URL("../../fixtures/oracle/", import.meta.url);
const files = readdirSync(folder).filter((name) => name.endsWith(".cases"));
const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

describe("recorded on a processor", () => {
  for (const file of files) {
    it(`${file} gives the same registers, flags, memory and faults`, () => {
      const replayer = new Replayer();
      const list = unpack(readFileSync(new URL(file, folder)));
      expect(list.length).toBeGreaterThan(1000);
      const failures: string[] = [];
      for (const { case: c, result } of list) {
        const diff = differences(c, result, replayer.run(c));
        if (diff.length) failures.push(`${c.bits}-bit ${hex(c.code)}: ${diff.join("; ")}`);
      }
      expect(failures.slice(0, 10)).toEqual([]);
    });
  }

  it("a wrong result is noticed", () => {
    const replayer = new Replayer();
    const list = unpack(readFileSync(new URL(files[0]!, folder))).slice(0, 200);
    for (const { case: c, result } of list) {
      const gpr = result.gpr.slice();
      gpr[0]! ^= 1n;
      expect(differences(c, { ...result, gpr }, replayer.run(c))).not.toEqual([]);
    }
  });
});
