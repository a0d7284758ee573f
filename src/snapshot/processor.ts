// The processor's own state, out and in.
import { GPR, HOOKS, STATE_END, STOP } from "../../assembly/abi/state.ts";
import type { Core } from "../core/index.ts";

export function captureState(core: Core): Uint8Array<ArrayBuffer> {
  const state = core.u8.slice(GPR, STATE_END);
  return state;
}

/** Memory must be in place. The hooks are those of the machine, not of the state. */
export function restoreState(core: Core, state: Uint8Array): void {
  const hooks = core.read32(HOOKS);
  core.u8.set(state, GPR);
  core.write32(HOOKS, hooks);
  core.write32(STOP, 0);
  core.exports.restored();
}
