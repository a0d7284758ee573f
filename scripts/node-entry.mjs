// dist/src/index.js, which Node.js loads: the module of browsers and bundlers, dist/src/web.js, as a script. Node.js 20 parses imported
// modules anew in every process; for a script it takes what V8 has compiled before, a file beside it that is made here.
// V8 checks that it is for itself, its flags and a source of the same length, and parses the source where it is not.
import { spawnSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

/** What web.js begins with: it takes the WebAssembly modules from the package's files here, and from text there. */
export const BYTES_IMPORT = 'import{wasmBytes}from"./core/bytes.js";\n';

/** `src`: the folder with web.js. `exports`: names in the module, and outside. */
export function writeNodeEntry(src, exports) {
  const text = readFileSync(join(src, "web.js"), "utf8");
  const end = text.lastIndexOf("export{");
  const body = text.slice(BYTES_IMPORT.length, end);
  if (!text.startsWith(BYTES_IMPORT) || end < 0) throw new Error("web.js does not begin and end as it should");
  // a script has neither import.meta nor, without more, import(); with other characters it would take twice the memory
  if (/[^\0-\x7f]|\bimport\b/.test(body))
    throw new Error("web.js has characters or imports that a script should not have");
  const members = exports.map(([here, outside]) => (here === outside ? here : `${outside}:${here}`));
  const names = exports.map(([, outside]) => outside);
  writeFileSync(
    join(src, "index.js"),
    `// Written by scripts/node-entry.mjs: for Node.js what web.js is for browsers and bundlers.
const load = globalThis.process?.getBuiltinModule;
const wrong = (what) => \`\${what}: this file is Node.js's, beside web.js; with a bundler use the condition "module", without Node.js "default"\`;
if (!load) throw new Error(wrong("there is no process.getBuiltinModule"));
const { readFileSync } = load("node:fs");
const at = (file) => (import.meta.dirname ? \`\${import.meta.dirname}/\${file}\` : new URL(file, import.meta.url));
let text;
try {
  text = readFileSync(at("web.js"), "utf8");
} catch (cause) {
  throw new Error(wrong("web.js cannot be read"), { cause });
}
let cachedData;
try {
  cachedData = readFileSync(at(\`web.\${process.versions.v8}-\${process.arch}.cache\`));
} catch {
  // no build was made by this Node.js: web.js is parsed
}
// its lines are those of web.js
const source = \`(function(wasmBytes){"use strict";
\${text.slice(${BYTES_IMPORT.length}, ${end})}
return{${members.join(",")}}})\`;
const script = new (load("node:vm").Script)(source, { filename: import.meta.url.replace(/[^/]*$/, "web.js"), cachedData });
export const {
  ${names.join(",\n  ")},
} = script.runInThisContext()((name) => readFileSync(at(\`../../build/\${name}.wasm\`)));
`,
  );
}

/** Compiled by a process that has made a machine: V8 keeps the functions that ran. */
export function writeCodeCache(src) {
  const entry = pathToFileURL(join(src, "index.js")).href;
  const program = `
    import vm from "node:vm";
    import { writeFileSync } from "node:fs";
    const { Script } = vm;
    let script;
    vm.Script = function (...args) {
      script = new Script(...args);
      return script;
    };
    const { Machine, loadImage, parseFlat } = await import(${JSON.stringify(entry)});
    const machine = new Machine();
    loadImage(machine, parseFlat(Uint8Array.of(0xf4), { mode: "real" }));
    machine.run();
    const file = \`web.\${process.versions.v8}-\${process.arch}.cache\`;
    writeFileSync(${JSON.stringify(`${src}/`)} + file, script.createCachedData());
  `;
  // flags that change code would make V8 refuse it elsewhere
  const env = { ...process.env, NODE_OPTIONS: "" };
  const args = ["--input-type=module", "-e", program];
  const { status, stderr, error } = spawnSync(process.execPath, args, { env, encoding: "utf8" });
  if (error) throw error;
  if (status !== 0) throw new Error(`the code cache cannot be made:\n${stderr}`);
}
