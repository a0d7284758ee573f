export { type DisassembleOptions, type Disassembly, disassemble } from "./disassemble.ts";
export { type CodeSection, type CodeSymbol, type ElfCode, elfCode } from "./elf.ts";
export type { DisassemblyMode } from "./fields.ts";
export { type ListedInstruction, type ListingOptions, listing, SymbolNames } from "./listing.ts";
