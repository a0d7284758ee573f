export { type DisassembleOptions, type Disassembly, disassemble } from "./disassemble.ts";
export type { DisassemblyMode } from "./fields.ts";
