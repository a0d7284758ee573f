// Every export of the generator; src/core/exports.ts describes them.

export { generate, linkRegion } from "./batch";
