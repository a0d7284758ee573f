// The VM-exit record. memory/ and vmx/ write it, vmx/exit.ts consumes it.
import {
  StopBit,
  XR_ILEN,
  XR_INFO,
  XR_INTR_ERROR,
  XR_INTR_INFO,
  XR_LINEAR,
  XR_PHYSICAL,
  XR_QUALIFICATION,
  XR_REASON,
} from "../abi/state";
import { stop } from "./stop";

/** Records a VM exit; fields of the record that this cause does not have are 0. */
export function recordExit(reason: u32, qualification: u64, ilen: u32): void {
  store<u32>(XR_REASON, reason);
  store<u32>(XR_ILEN, ilen);
  store<u64>(XR_QUALIFICATION, qualification);
  store<u64>(XR_LINEAR, 0);
  store<u64>(XR_PHYSICAL, 0);
  store<u32>(XR_INFO, 0);
  store<u32>(XR_INTR_INFO, 0);
  store<u32>(XR_INTR_ERROR, 0);
  stop(StopBit.Exit);
}
