// Builds what is out of date: assembly/ -> build/core.wasm and build/generator.wasm -> src/core/*Bytes.generated.ts, then src/ -> dist/.
// Plain Node, so that it runs before anything is built. Talks on stderr only.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join, parse, relative } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { BYTES_IMPORT, writeCodeCache, writeNodeEntry } from "./node-entry.mjs";

export const root = dirname(dirname(fileURLToPath(import.meta.url)));
const at = (...parts) => join(root, ...parts);

/** The Wasm modules: the processor, and the generator of code for it (docs/architecture.md). */
const MODULES = [
  { name: "core", config: "asconfig.json", entry: "assembly/index.ts" },
  { name: "generator", config: "asconfig.generator.json", entry: "assembly/generator/index.ts" },
];
const bytesFile = (name) => `src/core/${name}Bytes.generated.ts`;
const GENERATED = MODULES.map(({ name }) => bytesFile(name));
/** Sources of a module: the generator takes abi/ alone from the others. */
const sourcesOf = (name) =>
  filesUnder("assembly").filter(
    (file) => file.startsWith("assembly/abi/") || file.startsWith("assembly/generator/") === (name === "generator"),
  );

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
    if (GENERATED.includes(file) || !existsSync(at(file))) continue;
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

/** assembly/ -> build/NAME.wasm and the same bytes as a TypeScript module. Returns true when something was written. */
function buildModule({ name, config, entry }, log) {
  const wasm = `build/${name}.wasm`;
  const stamp = `build/${name}.stamp`;
  const hash = hashOf([...sourcesOf(name), config, "scripts/inline.mjs", "package-lock.json"]);
  if (isFresh(stamp, hash, wasm, bytesFile(name))) return false;
  if (!existsSync(at(entry))) throw new Error(`${entry} is missing: there is no ${name} to build`);
  log(`wasm-vmx: compiling the ${name} (assembly/ -> ${wasm})`);
  mkdirSync(at("build"), { recursive: true });
  runNode("asc", "node_modules/assemblyscript/bin/asc.js", ["--config", config, "--debug"]);
  runNode("inlining", "scripts/inline.mjs", [wasm]);
  const text =
    `// Written by scripts/build.mjs from ${wasm}.\n` +
    `export const ${name}Base64: string =\n  "${readFileSync(at(wasm)).toString("base64")}";\n`;
  writeFileSync(at(bytesFile(name)), text);
  writeFileSync(at(stamp), hash);
  return true;
}

export function buildModules(log = console.error) {
  return MODULES.map((module) => buildModule(module, log)).includes(true);
}

/** Modules of dist/ that something outside loads by its path: what package.json exports, and programs; and what stays a file. */
function entryPoints() {
  const { exports } = JSON.parse(readFileSync(at("package.json"), "utf8"));
  const exported = Object.values(exports).flatMap((target) => target.types ?? []);
  const programs = [
    "core/bytes",
    "cli/main",
    "cli/labWorker",
    "cli/policyHooks",
    ...readdirSync(at("src/bench")).map((file) => `bench/${parse(file).name}`),
  ];
  const modules = exported.map((file) => file.replace("./dist/", "").replace(/\.d\.ts$/, ".ts"));
  return [...modules, ...programs.map((name) => `src/${name}.ts`)];
}

/** Modules as few files: one for each entry, and chunks of what they share, so that an import reads little. */
function bundle(out) {
  const { buildSync, transformSync } = createRequire(import.meta.url)("esbuild");
  const common = {
    bundle: true,
    format: "esm",
    platform: "neutral",
    target: "node20",
    external: ["node:*", "typescript"],
    mainFields: ["module", "main"],
    legalComments: "none",
    logLevel: "error",
    // what is not there is not parsed at every start; names stay, for stack traces
    minifySyntax: true,
    minifyWhitespace: true,
    lineLimit: 160,
  };
  const { metafile } = buildSync({
    ...common,
    absWorkingDir: root,
    entryPoints: entryPoints(),
    outdir: at(out),
    outbase: root,
    chunkNames: "src/chunks/[name]-[hash]",
    splitting: true,
    metafile: true,
  });
  const outputs = Object.fromEntries(
    Object.entries(metafile.outputs).map(([path, { imports, exports }]) => [
      relative(out, path),
      { exports, imports: imports.map((one) => relative(out, one.path)) },
    ]),
  );
  const bytes = outputs["src/core/bytes.js"].imports.find((chunk) => outputs[chunk].exports.includes("wasmBytes"));
  const joined = joinChunks(out, outputs, bytes, (contents, file) => {
    const stdin = { contents, resolveDir: at(out, "src/chunks") };
    buildSync({ ...common, stdin, external: [...common.external, at(out, bytes)], outfile: at(out, file) });
  });
  moveBytes(out, bytes);
  restoreClassNames(out);
  shortenLocals(at(out, joined), (code) => {
    const { target, minifySyntax, minifyWhitespace, lineLimit } = common;
    return transformSync(code, { target, minifySyntax, minifyWhitespace, lineLimit, minifyIdentifiers: true }).code;
  });
  writeNodeEntry(at(out, "src"), intoEntry(out, joined, new Set(outputs["src/index.js"].exports)));
}

/** Each file costs an import the better part of a millisecond: the chunks that the package's first entry loads become one, all but `bytes`. */
function joinChunks(out, outputs, bytes, write) {
  const joined = new Set();
  const visit = (file) => {
    for (const chunk of outputs[file].imports) {
      if (!chunk.startsWith("src/chunks/") || chunk === bytes || joined.has(chunk)) continue;
      joined.add(chunk);
      visit(chunk);
    }
  };
  visit("src/index.js");
  const names = [...joined].flatMap((chunk) => outputs[chunk].exports);
  const twice = names.filter((name, i) => names.indexOf(name) !== i);
  if (twice.length) throw new Error(`chunks that are to be one export the same names: ${twice.join(", ")}`);
  const [first] = [...joined].map((chunk) => basename(chunk));
  const file = `src/chunks/${first.replace("chunk", "machine")}`;
  write([...joined].map((chunk) => `export * from "./${basename(chunk)}";`).join("\n"), file);
  for (const [path, { imports }] of Object.entries(outputs)) {
    if (joined.has(path)) continue;
    let text = readFileSync(at(out, path), "utf8");
    for (const chunk of imports.filter((one) => joined.has(one))) {
      text = text.replaceAll(basename(chunk), basename(file));
    }
    writeFileSync(at(out, path), text);
  }
  for (const chunk of joined) rmSync(at(out, chunk));
  return file;
}

/** What `wasmBytes` is in goes where its own entry is; only the joined chunk uses it. */
function moveBytes(out, bytes) {
  const entry = "src/core/bytes.js";
  renameSync(at(out, bytes), at(out, entry));
  for (const file of readdirSync(at(out), { recursive: true })) {
    if (!file.endsWith(".js") || file === entry) continue;
    const text = readFileSync(at(out, file), "utf8");
    const changed = text.replace(new RegExp(`\\bimport"[^"]*/${basename(bytes)}";`), "");
    if (changed !== text) writeFileSync(at(out, file), changed);
  }
}

/** `A,B as C` -> [name in the module, name outside]. */
const specifiersOf = (list) =>
  list
    .split(",")
    .map((one) => one.trim().split(" as "))
    .map(([a, b = a]) => [a, b]);
const specifiers = (pairs) => pairs.map(([a, b]) => (a === b ? a : `${a} as ${b}`)).join(",");

/**
 * The chunk of the first entry becomes the entry of browsers and bundlers, one file fewer for every import. What only other modules
 * of the package import of it has names that begin with `_` there; they do by a name that package.json resolves as it does the entry.
 * Returns its exports: names inside and outside.
 */
function intoEntry(out, chunk, exported) {
  const entry = "src/web.js";
  const outside = (name) => (exported.has(name) ? name : `_${name}`);
  const whole = readFileSync(at(out, chunk), "utf8");
  const begin = whole.lastIndexOf("export{");
  const own = specifiersOf(/\{([^}]*)\}/.exec(whole.slice(begin))[1]);
  const exports = own.map(([here, name]) => [here, outside(name)]);
  const names = new Set(own.map(([, name]) => name));
  if (![...exported].every((name) => names.has(name))) throw new Error(`${entry} exports more than ${chunk}`);
  for (const file of readdirSync(at(out), { recursive: true })) {
    if (!file.endsWith(".js") || file === entry || file === chunk) continue;
    const text = readFileSync(at(out, file), "utf8");
    if (!text.includes(basename(chunk))) continue;
    const imports = new RegExp(`import(?:\\{([^}]*)\\}from)?"[^"]*/${basename(chunk)}";`, "g");
    const changed = text.replace(imports, (_, list) => {
      if (list === undefined) return "";
      return `import{${specifiers(specifiersOf(list).map(([name, here]) => [outside(name), here]))}}from"#entry";`;
    });
    if (changed.includes(basename(chunk))) throw new Error(`${file} imports ${chunk} in a way that is not known here`);
    writeFileSync(at(out, file), changed);
  }
  writeFileSync(at(out, entry), `${whole.slice(0, begin)}export{${specifiers(exports)}};\n`);
  rmSync(at(out, chunk));
  return exports;
}

/**
 * Short names for parameters, local variables and private members of a module, which make a tenth of what every import parses. Names
 * of functions and classes stay, for stack traces: nothing is renamed at the top of what is no module.
 */
function shortenLocals(file, transform) {
  const text = readFileSync(file, "utf8");
  const exports = text.lastIndexOf("export{");
  const body = text.slice(0, Math.max(exports, 0)).replace(/\bimport\{wasmBytes\}from"[^"]*";/, "");
  if (body === "" || /\bimport\b/.test(body)) throw new Error(`${file} is not one module with its exports at the end`);
  writeFileSync(file, BYTES_IMPORT + transform(body) + text.slice(exports));
}

/** esbuild calls a class that speaks of itself `_Machine`; people see the name in their consoles. The variable's name is the class's. */
function restoreClassNames(out) {
  for (const file of readdirSync(at(out), { recursive: true })) {
    if (!file.endsWith(".js")) continue;
    const text = readFileSync(at(out, file), "utf8");
    const names = [...text.matchAll(/\b(\w+)\s*=\s*class _(\w+)\b/g)].filter(([, name, inner]) => name === inner);
    if (names.length === 0) continue;
    writeFileSync(
      at(out, file),
      names.reduce(
        (changed, [, name]) =>
          changed
            .replace(new RegExp(`=\\s*class _${name}\\b`), "=class")
            .replace(new RegExp(`\\b_${name}\\b`, "g"), name),
        text,
      ),
    );
  }
}

/** src/ -> dist/. Returns true when something was written. */
export function buildHost(log = console.error) {
  const sources = [
    ...filesUnder("src"),
    ...filesUnder("assembly/abi"),
    "tsconfig.json",
    "tsconfig.build.json",
    "scripts/build.mjs",
    "scripts/node-entry.mjs",
  ];
  const hash = createHash("sha256")
    .update(hashOf([...sources, "package-lock.json", "package.json"]))
    .update(GENERATED.map((file) => readFileSync(at(file), "utf8")).join(""))
    .digest("hex");
  if (isFresh("build/dist.stamp", hash, "dist/src/index.js")) return false;
  log("wasm-vmx: compiling the host (src/ -> dist/)");
  const fresh = `build/dist.${process.pid}`;
  try {
    runNode("tsc", "node_modules/typescript/bin/tsc", ["-p", "tsconfig.build.json", "--outDir", fresh]);
    bundle(fresh);
    rmSync(at("dist"), { recursive: true, force: true });
    renameSync(at(fresh), at("dist"));
    writeCodeCache(at("dist/src"));
  } finally {
    rmSync(at(fresh), { recursive: true, force: true });
  }
  writeFileSync(at("build/dist.stamp"), hash);
  return true;
}

export function build(log) {
  const core = buildModules(log);
  const host = buildHost(log);
  return core || host;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    if (process.argv.includes("--core")) buildModules();
    else build();
  } catch (error) {
    console.error(`wasm-vmx: ${error.message}`);
    process.exitCode = 1;
  }
}
