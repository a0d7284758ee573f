/**
 * npm run coverage [-- TEST...]: runs the processor's tests on a core that reports each instruction it carries out, and
 * names the rows of the opcode table that none of them executed. Exit status 1 when there are any or a test fails.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { rowPositions } from "./generate-opcodes.ts";
import { type OpcodeRow, opcodeRows } from "./opcodes.ts";

const TESTS = [
  "test/oracle",
  "test/faults",
  "test/execute",
  "test/system",
  "test/isa",
  "test/vmx",
  "test/programs",
  "test/machine",
  "test/kvm",
];

const root = fileURLToPath(new URL("..", import.meta.url));
const folder = `${root}build/coverage`;

function node(args: readonly string[], env: Readonly<Record<string, string>> = {}): boolean {
  const result = spawnSync(process.execPath, args, { cwd: root, stdio: "inherit", env: { ...process.env, ...env } });
  if (result.error) throw result.error;
  return result.status === 0;
}

function build(): boolean {
  console.error("compiling the core for coverage");
  const out = `${folder}/coverage.wasm`;
  if (!node(["node_modules/assemblyscript/bin/asc.js", "--config", "asconfig.coverage.json"])) return false;
  const text = readFileSync(out).toString("base64");
  writeFileSync(`${folder}/coreBytes.ts`, `export const coreBase64: string =\n  "${text}";\n`);
  return true;
}

function counts(): Map<number, number> {
  const all = new Map<number, number>();
  for (const file of readdirSync(folder).filter((name) => name.startsWith("hits-"))) {
    const list: [number, number][] = JSON.parse(readFileSync(`${folder}/${file}`, "utf8"));
    for (const [entry, count] of list) all.set(entry, (all.get(entry) ?? 0) + count);
  }
  return all;
}

const place = (row: OpcodeRow): string => {
  const prefix = row.prefixes ? `prefix ${row.prefixes.join("/")} ` : "";
  const modrm = row.digit === undefined ? "" : ` /${row.digit}${row.rm === undefined ? "" : ` rm ${row.rm}`}`;
  return `${row.mnemonic} ${row.operands} (${prefix}${row.map} ${row.opcode.toString(16)}${modrm} ${row.mod ?? ""})`;
};

rmSync(folder, { recursive: true, force: true });
mkdirSync(folder, { recursive: true });
if (!build()) process.exit(1);
const tests = process.argv.length > 2 ? process.argv.slice(2) : TESTS;
// the interpreter alone: generated code does not report
const env = { WASM_VMX_COVERAGE: folder, WASM_VMX_JIT: "0" };
const passed = node(["node_modules/vitest/vitest.mjs", "run", "--testTimeout", "600000", ...tests], env);
const hits = counts();
const positions = rowPositions();
const untouched = opcodeRows.filter((_, i) => !positions[i]!.some((entry) => hits.has(entry)));
for (const row of untouched) console.log(`no test executes ${place(row)}`);
console.error(`${opcodeRows.length - untouched.length} of ${opcodeRows.length} rows of the opcode table executed`);
process.exitCode = passed && untouched.length === 0 ? 0 : 1;
