export { type AssembledLine, type Assembly, assemble } from "./assemble.ts";
export type { SourceError } from "./errors.ts";
export { FORMS, type Mode } from "./names.ts";
