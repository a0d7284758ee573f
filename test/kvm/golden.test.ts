// The VMM programs of fixtures/kvm/programs.txt on wasm-vmx against what /dev/kvm said (fixtures/kvm/golden.json).
import { readFileSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { parsePrograms, runProgram } from "./programs.ts";

const file = (name: string): string => readFileSync(new URL(`../../fixtures/kvm/${name}`, import.meta.url), "utf8");
const programs = parsePrograms(file("programs.txt"));
const golden = JSON.parse(file("golden.json")) as { [program: string]: string[] };

/** Lines of the recording that are not upstream's rule on VMX, what is right instead, and why. */
const DIFFERENCES: { readonly [program: string]: { readonly [line: string]: readonly [right: string, why: string] } } =
  {};

describe("VMM programs say what they say on /dev/kvm", () => {
  for (const program of programs) {
    test(program.name, () => {
      const differences = DIFFERENCES[program.name] ?? {};
      const want = golden[program.name]!.map((line) => differences[line]?.[0] ?? line);
      expect(runProgram(program)).toEqual(want);
    });
  }
});

test("every difference is still one", () => {
  for (const [program, lines] of Object.entries(DIFFERENCES)) {
    for (const line of Object.keys(lines)) expect(golden[program]).toContain(line);
  }
});
