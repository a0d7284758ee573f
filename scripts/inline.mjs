// build/core.wasm and build/generator.wasm again through Binaryen. asc makes them small; this inlines in the core where it pays:
// engines do not inline WebAssembly functions, and the paths of single instructions, interrupts and VM exits are chains of small
// ones. The generator, which runs once a region, stays as small as it is. Names of functions, which asc leaves in for this, go.
import { readFileSync, writeFileSync } from "node:fs";
import { basename } from "node:path";
import binaryen from "assemblyscript/binaryen";

/** Modules and folders of assembly/ whose functions stay as they are: they run once a block, once a region or more rarely. */
const RARE = [
  ...[
    "decode/",
    "execute/bcd",
    "execute/callGate",
    "execute/follow/",
    "execute/patches",
    "execute/selectors",
    "execute/tables",
    "jit/rewritten",
    "jit/seen",
    "jit/site",
  ],
  ...[
    "memory/traps",
    "run/singleStep",
    "run/traps",
    "state/stop/raise",
    "state/stop/stopHost",
    "system/features",
    "system/reset",
    "system/task",
  ],
  ...[
    "vmx/address",
    "vmx/entryControls",
    "vmx/entryHost",
    "vmx/entrySegments",
    "vmx/instructionInfo",
    "vmx/msrLists",
    "vmx/pdpte",
  ],
];

const file = process.argv[2];
const wasm = binaryen.readBinary(readFileSync(file));
const { MutableGlobals, NontrappingFPToInt, SignExt, BulkMemory, BulkMemoryOpt } = binaryen.Features;
wasm.setFeatures(MutableGlobals | NontrappingFPToInt | SignExt | BulkMemory | BulkMemoryOpt);
// nothing lies below 0x1000 (assembly/abi/layout.ts): a sum that wraps round to there is no address
binaryen.setLowMemoryUnused(true);
binaryen.setOptimizeLevel(3);
if (basename(file) === "core.wasm") {
  binaryen.setShrinkLevel(1);
  // sizes in Binaryen's units, roughly expressions
  binaryen.setAlwaysInlineMaxSize(12);
  binaryen.setFlexibleInlineMaxSize(60);
  binaryen.setOneCallerInlineMaxSize(200);
  for (const path of RARE) {
    binaryen.setPassArgument("no-inline", `assembly/${path}*`);
    wasm.runPasses(["no-inline"]);
  }
  wasm.runPasses(["inlining-optimizing"]);
} else binaryen.setShrinkLevel(2);
wasm.optimize();
binaryen.setDebugInfo(false);
writeFileSync(file, wasm.emitBinary());
