import { COMM_VALUE, VmxResult } from "../../assembly/abi/run.ts";
import type { Core } from "../core/index.ts";
import { Field } from "./vmcs-fields.ts";

/** A VMX instruction of the host failed: a fault of this package. @kvm vmx_insn_failed */
export class VmxInstructionError extends Error {
  override name = "VmxInstructionError";
  constructor(
    readonly instruction: string,
    readonly result: number,
    /** VM-instruction error number, 0 when there is none. */
    readonly number: number,
  ) {
    const how = ["success", "VMfailInvalid", `VMfailValid ${number}`, "a fault"][result] ?? `result ${result}`;
    super(`${instruction}: ${how}`);
  }
}

/** The VMX instructions as the kernel's vmx_ops.h has them. */
export class VmxOps {
  constructor(readonly core: Core) {}

  vmread(field: number): bigint {
    const result = this.core.exports.vmread(field);
    if (result !== VmxResult.Succeed) this.fail(`vmread 0x${field.toString(16)}`, result);
    return this.core.read64(COMM_VALUE);
  }

  /** Low 32 bits, unsigned. */
  vmread32(field: number): number {
    return Number(this.vmread(field) & 0xffff_ffffn);
  }

  vmwrite(field: number, value: bigint | number): void {
    const wide = typeof value === "bigint" ? value : BigInt(value >>> 0);
    const result = this.core.exports.vmwrite(field, wide);
    if (result !== VmxResult.Succeed) this.fail(`vmwrite 0x${field.toString(16)}, 0x${wide.toString(16)}`, result);
  }

  setBits(field: number, bits: number): void {
    this.vmwrite(field, this.vmread32(field) | bits);
  }

  clearBits(field: number, bits: number): void {
    this.vmwrite(field, this.vmread32(field) & ~bits);
  }

  vmclear(vmcs: bigint): void {
    this.check("vmclear", this.core.exports.vmclear(vmcs));
  }

  vmptrld(vmcs: bigint): void {
    this.check("vmptrld", this.core.exports.vmptrld(vmcs));
  }

  inveptSingle(eptp: bigint): void {
    this.check("invept", this.core.exports.invept(1, eptp));
  }

  invvpidSingle(vpid: number): void {
    this.check("invvpid", this.core.exports.invvpid(1, vpid, 0n));
  }

  /** VM-instruction error, 0 without a current VMCS. */
  instructionError(): number {
    return this.core.exports.vmread(Field.VM_INSTRUCTION_ERROR) === VmxResult.Succeed
      ? Number(this.core.read64(COMM_VALUE))
      : 0;
  }

  private check(instruction: string, result: number): void {
    if (result !== VmxResult.Succeed) this.fail(instruction, result);
  }

  private fail(instruction: string, result: number): never {
    throw new VmxInstructionError(instruction, result, result === VmxResult.FailValid ? this.instructionError() : 0);
  }
}
