// Builds what is out of date: assembly/ -> build/core.wasm -> src/core/coreBytes.generated.ts, then src/ -> dist/.
// Plain Node, so that it runs before anything is built. Talks on stderr only.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join, parse } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const at = (...parts) => join(root, ...parts);
const GENERATED = "src/core/coreBytes.generated.ts";

function filesUnder(path) {
  return readdirSync(at(path), { withFileTypes: true })
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .flatMap((entry) => {
      const child = `${path}/${entry.name}`;
      return entry.isDirectory() ? filesUnder(child) : child.endsWith(".ts") || child.endsWith(".json") ? [child] : [];
    });
}

function hashOf(files) {
  const hash = createHash("sha256").update(process.version);
  for (const file of files) {
    if (file === GENERATED || !existsSync(at(file))) continue;
    hash.update(`\0${file}\0`).update(readFileSync(at(file)));
  }
  return hash.digest("hex");
}

const isFresh = (stamp, hash, ...outputs) =>
  outputs.every((output) => existsSync(at(output))) &&
  existsSync(at(stamp)) &&
  readFileSync(at(stamp), "utf8") === hash;

function runNode(what, script, args) {
  if (!existsSync(at(script))) throw new Error(`${script} is missing: run npm ci first`);
  const result = spawnSync(process.execPath, [at(script), ...args], { cwd: root, encoding: "utf8" });
  if (result.error) throw result.error;
  const output = `${result.stdout}${result.stderr}`.trimEnd();
  if (result.status !== 0) throw new Error(`${what} failed:\n${output}`);
  const warnings = output.split("\n").filter((line) => line && line !== "Last converge was suboptimal.");
  if (warnings.length) console.error(warnings.join("\n"));
}

/** assembly/ -> build/core.wasm and the same bytes as a TypeScript module. Returns true when something was written. */
export function buildCore(log = console.error) {
  const hash = hashOf([...filesUnder("assembly"), "asconfig.json", "scripts/inline.mjs", "package-lock.json"]);
  if (isFresh("build/core.stamp", hash, "build/core.wasm", GENERATED)) return false;
  if (!existsSync(at("assembly/index.ts"))) throw new Error("assembly/index.ts is missing: there is no core to build");
  log("wasm-vmx: compiling the core (assembly/ -> build/core.wasm)");
  mkdirSync(at("build"), { recursive: true });
  runNode("asc", "node_modules/assemblyscript/bin/asc.js", ["--config", "asconfig.json", "--debug"]);
  runNode("inlining", "scripts/inline.mjs", ["build/core.wasm"]);
  const bytes = readFileSync(at("build/core.wasm"));
  const text =
    "// Written by scripts/build.mjs from build/core.wasm.\n" +
    `export const coreBase64 =\n  "${bytes.toString("base64")}";\n`;
  writeFileSync(at(GENERATED), text);
  writeFileSync(at("build/core.stamp"), hash);
  return true;
}

/** Modules of dist/ that something outside loads by its path: what package.json exports, and programs. */
function entryPoints() {
  const { exports } = JSON.parse(readFileSync(at("package.json"), "utf8"));
  const exported = Object.values(exports).flatMap((target) => target.default ?? []);
  const programs = [
    "cli/main",
    "cli/labWorker",
    ...readdirSync(at("src/bench")).map((file) => `bench/${parse(file).name}`),
  ];
  return [...exported.map((file) => file.replace("./dist/", "")), ...programs.map((name) => `src/${name}.js`)];
}

/**
 * Modules as few files: one for each entry, and chunks of what they share, so that an import reads little. Declarations
 * stay as tsc wrote them.
 */
function bundle(modules, out) {
  const { buildSync } = createRequire(import.meta.url)("esbuild");
  buildSync({
    absWorkingDir: at(modules),
    entryPoints: entryPoints(),
    outdir: at(out),
    outbase: at(modules),
    chunkNames: "src/chunks/[name]-[hash]",
    bundle: true,
    splitting: true,
    format: "esm",
    platform: "neutral",
    target: "node20",
    external: ["node:*", "typescript"],
    mainFields: ["module", "main"],
    legalComments: "none",
    logLevel: "error",
  });
  cpSync(at(modules), at(out), { recursive: true, filter: (path) => !path.endsWith(".js") });
}

/** src/ -> dist/. Returns true when something was written. */
export function buildHost(log = console.error) {
  const sources = [
    ...filesUnder("src"),
    ...filesUnder("assembly/abi"),
    "tsconfig.json",
    "tsconfig.build.json",
    "scripts/build.mjs",
  ];
  const hash = createHash("sha256")
    .update(hashOf([...sources, "package-lock.json", "package.json"]))
    .update(readFileSync(at(GENERATED)))
    .digest("hex");
  if (isFresh("build/dist.stamp", hash, "dist/src/index.js")) return false;
  log("wasm-vmx: compiling the host (src/ -> dist/)");
  const fresh = `build/dist.${process.pid}`;
  const modules = `build/modules.${process.pid}`;
  try {
    runNode("tsc", "node_modules/typescript/bin/tsc", ["-p", "tsconfig.build.json", "--outDir", modules]);
    bundle(modules, fresh);
    rmSync(at("dist"), { recursive: true, force: true });
    renameSync(at(fresh), at("dist"));
  } finally {
    for (const path of [fresh, modules]) rmSync(at(path), { recursive: true, force: true });
  }
  writeFileSync(at("build/dist.stamp"), hash);
  return true;
}

export function build(log) {
  const core = buildCore(log);
  const host = buildHost(log);
  return core || host;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    if (process.argv.includes("--core")) buildCore();
    else build();
  } catch (error) {
    console.error(`wasm-vmx: ${error.message}`);
    process.exitCode = 1;
  }
}
