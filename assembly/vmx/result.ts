// How VMX instructions report. @sdm 3C "Conventions"
import { VmxResult } from "../abi/run";
import { V_VM_INSTRUCTION_ERROR } from "../abi/vmcsLayout";
import { Arithmetic, FLAG_CF, FLAG_ZF, setArithmetic } from "../state/flags";
import { hasVmcs, setVmcs32 } from "./vmcs";

export function vmSucceed(): u32 {
  Arithmetic.clear();
  return VmxResult.Succeed;
}

export function vmFailInvalid(): u32 {
  setArithmetic(FLAG_CF);
  return VmxResult.FailInvalid;
}

export function vmFailValid(error: u32): u32 {
  setArithmetic(FLAG_ZF);
  setVmcs32(V_VM_INSTRUCTION_ERROR, error);
  return VmxResult.FailValid;
}

/** VMfail: with the error number when there is a current VMCS to hold it. */
export function vmFail(error: u32): u32 {
  return hasVmcs() ? vmFailValid(error) : vmFailInvalid();
}
