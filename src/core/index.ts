export * from "./callbacks.ts";
export * from "./check.ts";
export * from "./core.ts";
export * from "./errors.ts";
export type * from "./exports.ts";
export { instantiateCore, loadCore } from "./wasm.ts";
