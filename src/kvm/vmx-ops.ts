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
    return this.core.vmcs.read(field) ?? this.#vmreadFailed(field);
  }

  /** Low 32 bits, unsigned; no bigint is made. */
  vmread32(field: number): number {
    return this.core.vmcs.readLow(field) ?? this.#vmreadFailed(field);
  }

  /** Bits 63:32. */
  vmreadHigh(field: number): number {
    return this.core.vmcs.readHigh(field) ?? this.#vmreadFailed(field);
  }

  #vmreadFailed(field: number): never {
    return this.fail(`vmread 0x${field.toString(16)}`, this.core.exports.vmread(field));
  }

  vmwrite(field: number, value: bigint | number): void {
    if (typeof value === "number") {
      this.vmwriteHalves(field, value, 0);
      return;
    }
    const result = this.core.exports.vmwrite(field, value);
    if (result !== VmxResult.Succeed) this.fail(`vmwrite 0x${field.toString(16)}, 0x${value.toString(16)}`, result);
  }

  /** Two 32-bit halves: no bigint is made. */
  vmwriteHalves(field: number, low: number, high: number): void {
    const result = this.core.vmcs.write(field, low, high);
    if (result === VmxResult.Succeed) return;
    this.fail(`vmwrite 0x${field.toString(16)}, 0x${(high >>> 0).toString(16)}:${(low >>> 0).toString(16)}`, result);
  }

  setBits(field: number, bits: number): void {
    const old = this.vmread32(field);
    const value = (old | bits) >>> 0;
    if (value !== old) this.vmwriteHalves(field, value, 0);
  }

  clearBits(field: number, bits: number): void {
    const old = this.vmread32(field);
    const value = (old & ~bits) >>> 0;
    if (value !== old) this.vmwriteHalves(field, value, 0);
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
