// The labels open at the point of emission, innermost last, so that branches can name blocks of the region.
import { i32c, op, set, TYPE_VOID, unsigned, W_BLOCK, W_BR, W_BR_IF, W_END, W_IF, W_LOOP } from "./emit";
import { L_ADJUST, L_WHY } from "./locals";

/** Label of the common exit. */
export const LABEL_EXIT: u32 = 0xffff;
/** Label of the central node. */
export const LABEL_CENTRE: u32 = 0xfffe;
/** An `if` no branch names. */
const LABEL_NONE: u32 = 0xfffd;

const stack: usize = memory.data(2048); // u16 each
let depth: u32 = 0;

export function clearLabels(): void {
  depth = 0;
}

function open(label: u32): void {
  store<u16>(stack + (depth << 1), label);
  depth++;
}

export function openBlock(label: u32): void {
  op(W_BLOCK);
  op(TYPE_VOID);
  open(label);
}

export function openLoop(label: u32): void {
  op(W_LOOP);
  op(TYPE_VOID);
  open(label);
}

export function openIf(): void {
  op(W_IF);
  op(TYPE_VOID);
  open(LABEL_NONE);
}

export function close(): void {
  op(W_END);
  depth--;
}

/** For closeTo(), when what was emitted since is taken back. */
export function labelsOpen(): u32 {
  return depth;
}

export function closeTo(mark: u32): void {
  depth = mark;
}

/** Nesting deeper than this is refused. */
export function deep(): bool {
  return depth > 900;
}

export function depthOf(label: u32): u32 {
  for (let i = depth; i > 0; i--) {
    if (load<u16>(stack + ((i - 1) << 1)) == label) return depth - i;
  }
  return unreachable();
}

export function branch(label: u32): void {
  op(W_BR);
  unsigned(depthOf(label));
}

export function branchIf(label: u32): void {
  op(W_BR_IF);
  unsigned(depthOf(label));
}

/** Leaves the region for the RIP in L_PC; so many of the instructions begun have not completed. */
export function leaveBehind(behind: u32, why: u32): void {
  i32c(behind);
  set(L_ADJUST);
  i32c(why);
  set(L_WHY);
  branch(LABEL_EXIT);
}

/** Leaves the region when the condition on the stack holds. */
export function branchExit(): void {
  branchIf(LABEL_EXIT);
}
