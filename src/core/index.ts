export * from "./callbacks.ts";
export * from "./check.ts";
export * from "./core.ts";
export * from "./errors.ts";
export type * from "./exports.ts";
export { forgetWarning, type JitOptions, type JitStatistics } from "./jit.ts";
export { readLinear, writeLinear } from "./linear.ts";
export type * from "./types.ts";
export { compileCore, loadCore } from "./wasm.ts";
