// In a coverage run (scripts/coverage.ts): counts which entries of the opcode tables each processor executes.
import { writeFileSync } from "node:fs";
import { afterAll } from "vitest";

const NO_ENTRY = 0xffff;
const ENTRIES = 0x10000;
const counts = new Uint32Array(ENTRIES);

/** The two functions that a coverage build imports besides the others. */
function listeners() {
  const entryOf = new Map<number, number>();
  const decoded = (record: number, entry: number): void => {
    if (entry === NO_ENTRY) entryOf.delete(record);
    else entryOf.set(record, entry);
  };
  const executed = (record: number): void => {
    const entry = entryOf.get(record);
    if (entry !== undefined) counts[entry]!++;
  };
  return { decoded, executed };
}

WebAssembly.Instance = class extends WebAssembly.Instance {
  constructor(module: WebAssembly.Module, imports: WebAssembly.Imports = {}) {
    super(module, { ...imports, imports: { ...imports.imports, ...listeners() } });
  }
};

afterAll(() => {
  const path = `${process.env.WASM_VMX_COVERAGE}/hits-${process.pid}-${Math.random()}.json`;
  writeFileSync(path, JSON.stringify([...counts.entries()].filter(([, count]) => count)));
});
