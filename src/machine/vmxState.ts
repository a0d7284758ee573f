// VMX as the guest of a machine uses it, for those who look on.
import { CURRENT_VMCS, ENTRIES, EXITS, VMX_STATE, VmxBit } from "../../assembly/abi/state.ts";
import { type Core, checkU32 } from "../core/index.ts";

export type VmxOperation = "off" | "root" | "nonRoot";

/** VMX operation of a machine's processor. */
export class VmxState {
  readonly #core: Core;

  constructor(core: Core) {
    this.#core = core;
  }

  /** "off" before VMXON, "root" in the guest's hypervisor, "nonRoot" in the guest's guest. */
  get operation(): VmxOperation {
    const bits = this.#core.read32(VMX_STATE);
    return bits & VmxBit.NonRoot ? "nonRoot" : bits & VmxBit.On ? "root" : "off";
  }

  /** Physical address of the current VMCS, undefined when there is none. */
  get currentVmcs(): bigint | undefined {
    const pointer = this.#core.read64(CURRENT_VMCS);
    return this.operation === "off" || pointer === 0xffff_ffff_ffff_ffffn ? undefined : pointer;
  }

  /** VM exits taken since the machine was made. */
  get exits(): bigint {
    return this.#core.read64(EXITS);
  }

  /** VM entries that reached a guest. */
  get entries(): bigint {
    return this.#core.read64(ENTRIES);
  }

  /**
   * A field of the current VMCS by its encoding, as VMREAD in root operation would give it, whatever runs; undefined where there is no
   * current VMCS or no such field. Of what the processor keeps in its registers during non-root operation a VMCS has the values of the
   * last exit.
   */
  readField(encoding: number): bigint | undefined {
    checkU32("encoding", encoding);
    if (this.currentVmcs === undefined) return undefined;
    return this.#core.vmcs.peek(encoding);
  }
}
