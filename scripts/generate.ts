/** `npm run generate`: writes every generated file of the source tree. `--check` only says which ones are stale. */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { layoutFile, vmcsNamesFile } from "./generate-layout.ts";
import { generateOpcodes } from "./generate-opcodes.ts";
import { generated as generateVmx } from "./vmx-tables.ts";

const root = new URL("..", import.meta.url);

/** Exported function -> module, for the handlers the dispatch switch calls. */
function handlers(): Map<string, string> {
  const out = new Map<string, string>();
  for (const file of readdirSync(new URL("assembly/execute/", root))) {
    if (!file.endsWith(".ts") || file.includes(".generated.")) continue;
    const text = readFileSync(new URL(`assembly/execute/${file}`, root), "utf8");
    for (const m of text.matchAll(/^export function (\w+)/gm)) out.set(m[1]!, `./${file.slice(0, -3)}`);
  }
  return out;
}

/** Path -> contents of the files that follow from scripts/opcodes.ts, scripts/tables and the state block. */
export function generated(): Map<string, string> {
  return new Map([
    ...generateOpcodes(handlers()),
    ...Object.entries(generateVmx()),
    ["src/snapshot/layout.generated.ts", layoutFile()],
    ["src/gdb/vmcsNames.generated.ts", vmcsNamesFile()],
  ]);
}

if (process.argv[1]?.endsWith("generate.ts")) {
  let stale = 0;
  for (const [path, text] of generated()) {
    const url = new URL(path, root);
    if (existsSync(url) && readFileSync(url, "utf8") === text) continue;
    stale++;
    if (process.argv.includes("--check")) console.error(`stale: ${path}`);
    else writeFileSync(url, text);
  }
  if (process.argv.includes("--check") && stale) process.exit(1);
}
