// build/core.wasm again through Binaryen with more inlining than asc asks for: engines do not inline WebAssembly functions,
// and the paths of VM exits, interrupts and single instructions are chains of small ones. The file grows by a tenth, its
// compressed size hardly.
import { readFileSync, writeFileSync } from "node:fs";
import binaryen from "assemblyscript/binaryen";

const file = process.argv[2];
const wasm = binaryen.readBinary(readFileSync(file));
const { MutableGlobals, NontrappingFPToInt, SignExt, BulkMemory, BulkMemoryOpt } = binaryen.Features;
wasm.setFeatures(MutableGlobals | NontrappingFPToInt | SignExt | BulkMemory | BulkMemoryOpt);
binaryen.setOptimizeLevel(3);
binaryen.setShrinkLevel(1);
binaryen.setZeroFilledMemory(true);
// sizes in Binaryen's units, roughly expressions
binaryen.setAlwaysInlineMaxSize(12);
binaryen.setFlexibleInlineMaxSize(60);
binaryen.setOneCallerInlineMaxSize(200);
wasm.runPasses(["inlining-optimizing"]);
wasm.optimize();
writeFileSync(file, wasm.emitBinary());
