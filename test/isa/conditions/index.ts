import type { Instruction } from "../condition.ts";
import { control } from "./control.ts";
import { far } from "./far.ts";
import { fast } from "./fast.ts";
import { io } from "./io.ts";
import { machine } from "./machine.ts";
import { segments } from "./segments.ts";
import { tables } from "./tables.ts";
import { vmx } from "./vmx.ts";
import { xsave } from "./xsave.ts";

/** Every system instruction. */
export const instructions: readonly Instruction[] = [
  ...tables,
  ...control,
  ...machine,
  ...io,
  ...segments,
  ...fast,
  ...far,
  ...vmx,
  ...xsave,
];
