import { GPR_NAMES, type RegisterValues } from "../../src/machine/index.ts";
import type { RegisterView } from "./protocol.ts";

const SEGMENTS = ["cs", "ss", "ds", "es", "fs", "gs", "tr", "ldtr"] as const;
const CONTROLS = ["cr0", "cr2", "cr3", "cr4", "cr8", "efer", "dr6", "dr7"] as const;
const LEGACY = 8;

/** General registers and RIP under the names of the mode: eax in 32-bit code, rax in 64-bit code. */
export function generalRegisters(values: RegisterValues, codeMode: 16 | 32 | 64): RegisterView[] {
  const long = codeMode === 64;
  const names = long ? GPR_NAMES : GPR_NAMES.slice(0, LEGACY);
  const width = long ? 64 : 32;
  const shown = (name: string): string => (long ? name : name.replace("r", "e"));
  return [...names, "rip" as const].map((name) => ({ name: shown(name), value: values[name], width }));
}

/** Segments (selector and base), control registers and descriptor tables. */
export function systemRegisters(values: RegisterValues): RegisterView[] {
  return [
    ...SEGMENTS.map((name) => ({ name, value: BigInt(values[name].selector), width: 16 })),
    ...CONTROLS.map((name) => ({ name, value: values[name], width: 64 })),
    { name: "gdtr", value: values.gdtr.base, width: 64 },
    { name: "idtr", value: values.idtr.base, width: 64 },
  ];
}
