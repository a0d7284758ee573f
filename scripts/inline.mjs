// build/core.wasm and build/generator.wasm again through Binaryen. asc makes them small; this inlines where it pays: engines do not
// inline WebAssembly functions, and the paths of single instructions, interrupts and VM exits are chains of small ones. They
// compile a function when it first runs, too: with fewer functions the generator is ready sooner. Names of functions,
// which asc leaves in for this, go.
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import binaryen from "assemblyscript/binaryen";

/**
 * Sizes up to which functions are inlined, in Binaryen's units, roughly expressions; and modules and folders of assembly/ whose
 * functions stay as they are.
 */
const RULES = {
  "core.wasm": {
    always: 12,
    flexible: 60,
    // they run once a block, once a region or more rarely
    stay: [
      ...["decode/", "events/handlerCode", "events/long", "events/protected", "execute/bcd", "execute/callGate"],
      ...["execute/farReturn/", "execute/farTarget", "system/frame", "system/innerStack"],
      ...["execute/follow/", "execute/patches", "execute/selectors"],
      ...["execute/tables", "jit/rewritten", "jit/seen", "jit/site", "memory/traps", "run/singleStep", "run/traps"],
      ...["state/stop/raise", "state/stop/stopHost", "system/features", "system/reset", "system/task", "vmx/address"],
      ...[
        "vmx/entryControls",
        "vmx/entryHost",
        "vmx/entrySegments",
        "vmx/instructionInfo",
        "vmx/msrLists",
        "vmx/pdpte",
      ],
    ],
  },
  // a thousand calls of these each
  "generator.wasm": { always: 6, flexible: 6, stay: ["generator/context", "generator/emit"] },
};

/** Where the core's global variables go, in the page below the state block (assembly/abi/layout.ts). */
const VARIABLES = 0x800;
const VARIABLES_END = 0x1000;

const file = process.argv[2];
const { always, flexible, stay } = RULES[basename(file)];
const wasm = binaryen.readBinary(readFileSync(file));
const { MutableGlobals, NontrappingFPToInt, SignExt, BulkMemory, BulkMemoryOpt, SIMD128 } = binaryen.Features;
wasm.setFeatures(MutableGlobals | NontrappingFPToInt | SignExt | BulkMemory | BulkMemoryOpt | SIMD128);
binaryen.setOptimizeLevel(3);
binaryen.setShrinkLevel(1);
// nothing lies below 0x1000 (assembly/abi/layout.ts): a sum that wraps round to there is no address
binaryen.setLowMemoryUnused(true);
binaryen.setAlwaysInlineMaxSize(always);
binaryen.setFlexibleInlineMaxSize(flexible);
binaryen.setOneCallerInlineMaxSize(200);
for (const path of stay) {
  binaryen.setPassArgument("no-inline", `assembly/${path}*`);
  wasm.runPasses(["no-inline"]);
}
wasm.runPasses(["inlining-optimizing"]);
wasm.optimize();
const done = basename(file) === "core.wasm" ? withoutGlobals(wasm) : wasm;
binaryen.setDebugInfo(false);
writeFileSync(file, done.emitBinary());

/**
 * The module with its global variables in linear memory, at VARIABLES. For those of an instance V8 allocates an ArrayBuffer, at which
 * it collects garbage when the memories of two young machines are there: that took longer than all else of a further machine.
 */
function withoutGlobals(from) {
  const text = from.emitText();
  const definition = /^ \(global (\S+) (?:\(mut )?(i32|i64)\)? \((?:i32|i64)\.const (\S+)\)\)\n/gm;
  const size = { i32: 4, i64: 8 };
  const variables = [...text.matchAll(definition)].map(([, name, type, value]) => ({ name, type, value }));
  // aligned, and what does not begin as zero in the middle, side by side
  const order = ({ type, value }) => (type === "i64" ? -1 : 1) * (value === "0" ? 2 : 1);
  variables.sort((a, b) => order(a) - order(b));
  const places = new Map();
  const values = [];
  let end = VARIABLES;
  for (const { name, type, value } of variables) {
    places.set(name, { type, at: end });
    if (value !== "0") values.push({ at: end, bytes: escaped(value, size[type]) });
    end += size[type];
  }
  const data = values.length
    ? ` (data (i32.const ${values[0].at}) "${values.map(({ bytes }) => bytes).join("")}")\n`
    : "";
  if (end > VARIABLES_END) throw new Error(`global variables take ${end - VARIABLES} bytes: give them more room`);
  const access = (name, what) => {
    const { type, at } = places.get(name);
    return `(${type}.${what} offset=${at} (i32.const 0)`;
  };
  const changed = text
    .replace(definition, "")
    .replace(/\(global\.get (\S+)\)/g, (_, name) => `${access(name, "load")})`)
    .replace(/\(global\.set (\S+)/g, (_, name) => access(name, "store"));
  if (/\(global[ .]/.test(changed)) throw new Error("a global variable that is not known here is left");
  const module = binaryen.parseText(`${changed.slice(0, changed.lastIndexOf(")"))}${data})\n`);
  module.setFeatures(from.getFeatures());
  if (!module.validate()) throw new Error("the module without global variables is not valid");
  return module;
}

/** A number as little-endian bytes in a string of the text format. */
function escaped(value, bytes) {
  const byte = (i) => Number((BigInt(value) >> BigInt(8 * i)) & 0xffn);
  return Array.from({ length: bytes }, (_, i) => `\\${byte(i).toString(16).padStart(2, "0")}`).join("");
}
