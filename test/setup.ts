// WASM_VMX_JIT=N npm test: every processor generates code for blocks that ran N times; 0 is the interpreter alone.
// WASM_VMX_TLB=N: its TLB has N entries a table.
import { setCoreDefaults } from "../src/core/index.ts";

const { WASM_VMX_JIT: threshold, WASM_VMX_TLB: entries } = process.env;
setCoreDefaults({
  ...(threshold === undefined ? {} : { jit: { threshold: Number(threshold) } }),
  ...(entries === undefined ? {} : { tlbEntries: Number(entries) }),
});

// code that was generated wrongly must not pass as code that cannot be compiled
const { warn } = console;
console.warn = (...text: unknown[]) => {
  if (`${text[0]}`.includes("malformed")) throw new Error(`${text[0]}`);
  warn(...text);
};

if (process.env.WASM_VMX_COVERAGE) await import("./coverage/listen.ts");
