// build/core.wasm again through Binaryen. asc makes it small; this inlines where it pays: engines do not inline WebAssembly
// functions, and the paths of single instructions, interrupts and VM exits are chains of small ones. Names of functions,
// which asc leaves in for this, go.
import { readFileSync, writeFileSync } from "node:fs";
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
    "memory/traps",
    "run/singleStep",
  ],
  ...[
    "run/traps",
    "state/stop/raise",
    "state/stop/stopHost",
    "system/features",
    "system/reset",
    "system/task",
    "generator/arith",
    "generator/context",
    "generator/emit",
    "generator/flags",
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
  ...[
    "generator/graph",
    "generator/groups",
    "generator/instruction",
    "generator/kinds",
    "generator/labels",
    "generator/liveness",
    "generator/multiply",
    "generator/operand",
  ],
  ...[
    "generator/plan",
    "generator/region/",
    "generator/site",
    "generator/spill",
    "generator/strings",
    "generator/system",
  ],
];

const file = process.argv[2];
const wasm = binaryen.readBinary(readFileSync(file));
const { MutableGlobals, NontrappingFPToInt, SignExt, BulkMemory, BulkMemoryOpt } = binaryen.Features;
wasm.setFeatures(MutableGlobals | NontrappingFPToInt | SignExt | BulkMemory | BulkMemoryOpt);
binaryen.setOptimizeLevel(3);
binaryen.setShrinkLevel(1);
// nothing lies below 0x1000 (assembly/abi/layout.ts): a sum that wraps round to there is no address
binaryen.setLowMemoryUnused(true);
// sizes in Binaryen's units, roughly expressions
binaryen.setAlwaysInlineMaxSize(12);
binaryen.setFlexibleInlineMaxSize(60);
binaryen.setOneCallerInlineMaxSize(200);
for (const path of RARE) {
  binaryen.setPassArgument("no-inline", `assembly/${path}*`);
  wasm.runPasses(["no-inline"]);
}
wasm.runPasses(["inlining-optimizing"]);
wasm.optimize();
binaryen.setDebugInfo(false);
writeFileSync(file, wasm.emitBinary());
