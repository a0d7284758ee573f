// What the forms of string instructions share (strings.ts, search.ts).
import { EFLAGS_REST } from "../abi/state";
import { FLAG_DF } from "../abi/x86";
import { addR, getR, setR, wide } from "./context";
import { get, I32_AND, I32_EQ, I32_LOAD, I64_EQ, I64_EXTEND_S, i32c, mem, op } from "./emit";

export const RAX: u32 = 0;
export const RCX: u32 = 8;
export const RSI: u32 = 48;
export const RDI: u32 = 56;
export const PAGE: u32 = 4096;
/** Label of the loop over elements. */
export const LABEL_ELEMENTS: u32 = 0xfffc;

export function equalTo(size: u32): void {
  op(size == 8 ? I64_EQ : I32_EQ);
}

/** register += the i32 local `bytes`, which has a sign. */
export function advanceBy(register: u32, bytes: u32): void {
  getR(register);
  get(bytes);
  if (wide) op(I64_EXTEND_S);
  addR();
  setR(register);
}

export function pushDown(): void {
  i32c(0);
  mem(I32_LOAD, EFLAGS_REST);
  i32c(FLAG_DF);
  op(I32_AND);
}
