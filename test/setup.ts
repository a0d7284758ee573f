// WASM_VMX_JIT=N npm test: every processor generates code for blocks that ran N times; 0 is the interpreter alone.
import { setDefaultJit } from "../src/core/index.ts";

const threshold = process.env.WASM_VMX_JIT;
if (threshold !== undefined) setDefaultJit(Number(threshold));
