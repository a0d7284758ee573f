// Every faulting condition of each system instruction, one at a time, by the interpreter and by generated code.
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { opcodeRows } from "../../scripts/opcodes.ts";
import { isPrivileged, runnable } from "../../scripts/oracle/rows.ts";
import { setCoreDefaults } from "../../src/core/index.ts";
import type { CpuModel } from "../../src/index.ts";
import { place as rowName } from "../faults/check.ts";
import { type Condition, type Instruction, matches, mem, PLACES, UD, type Where } from "./condition.ts";
import { instructions } from "./conditions/index.ts";
import { conditionsAt, rowsOf, withoutFeature } from "./generic.ts";
import { model } from "./model.ts";
import { type Outcome, Place } from "./place.ts";

const WITH_ERROR = [8, 10, 11, 12, 13, 14, 17];
const where = (w: Where): string => `${w.mode}, CPL ${w.cpl}`;
let functions = 0;

/** Runs of the same code from the same state: the first is the interpreter's, then there is generated code. */
const RUNS = 3;

/** Places that instructions left as they were: a fault changes nothing but the stack of its handler. */
const unused = new Map<string, Place>();

function outcomes(instruction: Instruction, at: Where, condition?: Condition, cpu: CpuModel = model): Outcome[] {
  const key = where(at);
  const p = (cpu === model && unused.get(key)) || new Place(at.mode, at.cpl, cpu);
  unused.delete(key);
  const before = p.world.machine.jitStatistics.functions;
  const prepare = (): void => {
    if (!condition?.bare) instruction.set?.(p);
    condition?.set?.(p);
  };
  prepare();
  p.prepare((condition?.code ?? instruction.code)(p, mem));
  const list = [p.run()];
  while (list.length < RUNS) {
    p.restore(prepare);
    list.push(p.run());
  }
  functions += p.world.machine.jitStatistics.functions - before;
  if (condition && !condition.trap && !p.tainted && cpu === model && list.every((got) => got.fault)) {
    p.reset();
    unused.set(key, p);
  }
  return list;
}

function expected(condition: Condition, at: Where): Outcome {
  const { vector, error = 0, trap = false } = condition;
  const fault = !trap;
  if (!WITH_ERROR.includes(vector) || at.mode === "real") return { vector, fault };
  return { vector, error: typeof error === "number" ? error : error(at), fault };
}

beforeAll(() => setCoreDefaults({ jit: { threshold: 1 } }));
afterAll(() => setCoreDefaults({}));

describe.each(instructions.map((i) => [i.name, i] as const))("%s", (_name, instruction) => {
  it("completes without them", () => {
    const wrong: unknown[] = [];
    for (const at of PLACES.filter((w) => matches(instruction.completes, w))) {
      for (const got of outcomes(instruction, at)) if (got.vector !== "none") wrong.push([where(at), got]);
    }
    expect(wrong).toEqual([]);
  });

  const seen = new Map<string, [Where, Condition][]>();
  for (const at of PLACES) {
    for (const c of conditionsAt(instruction, at)) seen.set(c.what, [...(seen.get(c.what) ?? []), [at, c]]);
  }
  it.each([...seen])("%s", (_what, list) => {
    const wrong: unknown[] = [];
    for (const [at, condition] of list) {
      for (const got of outcomes(instruction, at, condition)) {
        try {
          expect(got).toEqual(expected(condition, at));
        } catch {
          wrong.push([where(at), got, expected(condition, at)]);
        }
      }
    }
    expect(wrong).toEqual([]);
  });

  const lacking = withoutFeature(instruction, model);
  it.runIf(lacking)("without its CPUID feature", () => {
    for (const at of PLACES.filter((w) => matches(instruction.completes, w))) {
      for (const got of outcomes(instruction, at, undefined, lacking)) expect(got).toEqual({ vector: UD, fault: true });
    }
  });
});

describe("the table", () => {
  it("has conditions for every system instruction of the opcode table", () => {
    // plain: compared with a processor in user mode (scripts/oracle); ud: no model has it (test/execute/undefined.test.ts)
    const plain = new Set(runnable.filter((row) => !isPrivileged(row)));
    const system = opcodeRows.filter((row) => !plain.has(row) && row.handler !== "ud");
    const known = new Set(instructions.filter((i) => i.conditions.length > 0).flatMap(rowsOf));
    expect(system.length).toBeGreaterThan(100);
    expect(system.filter((row) => !known.has(row)).map(rowName)).toEqual([]);
  });

  it("names no instruction that the opcode table lacks", () => {
    expect(instructions.filter((i) => rowsOf(i).length === 0).map((i) => i.name)).toEqual([]);
  });

  it("was run by generated code too", () => {
    expect(functions).toBeGreaterThan(2000);
  });
});
