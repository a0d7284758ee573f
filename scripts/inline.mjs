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
binaryen.setDebugInfo(false);
writeFileSync(file, wasm.emitBinary());
