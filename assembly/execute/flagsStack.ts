// PUSHF and POPF. @sdm 2B "PUSHF/PUSHFD/PUSHFQ", "POPF/POPFD/POPFQ"

import { R_SIZE } from "../abi/record";
import { CPL, RSP, SEG_SS } from "../abi/state";
import { FLAG_IF, FLAG_RF, FLAG_VM, VEC_GP } from "../abi/x86";
import { probeWrite } from "../memory/access";
import { getRflags } from "../state/flags";
import { aborted, raiseError } from "../state/stop";
import { changeableFlags, FLAGS_FREE, FLAGS_WIDE, replaceFlags } from "../system/flagControl";
import { recomputeMode, vm86 } from "../system/mode";
import { iopl } from "../system/tss";
import { setVif, virtualFlags, virtualImage, virtualImageFaults } from "../system/virtualInterrupt";
import { mergeSp, stackMask } from "../system/width";
import { stackOperand } from "./farTarget";

/** vm86 with IOPL below 3. */
function sensitive(): bool {
  return vm86() && iopl() < 3;
}

/** The image has RF and VM clear. */
export function pushf(rec: usize): void {
  const size: u32 = load<u8>(rec, R_SIZE);
  const virtual = sensitive();
  if (virtual && !virtualFlags(size)) {
    raiseError(VEC_GP, 0);
    return;
  }
  const sp = load<u64>(RSP) - <u64>size;
  const host = probeWrite(SEG_SS, sp & stackMask(), size);
  if (aborted()) return;
  let image = getRflags() & ~(<u64>(FLAG_VM | FLAG_RF));
  if (virtual) image = virtualImage(image);
  if (size == 8) store<u64>(host, image);
  else if (size == 4) store<u32>(host, <u32>image);
  else store<u16>(host, <u16>image);
  store<u64>(RSP, mergeSp(sp));
}

export function popf(rec: usize): void {
  const size: u32 = load<u8>(rec, R_SIZE);
  const virtual = sensitive();
  if (virtual && !virtualFlags(size)) {
    raiseError(VEC_GP, 0);
    return;
  }
  const image = stackOperand(size, 0);
  if (aborted()) return;
  if (virtual) {
    if (virtualImageFaults(image)) {
      raiseError(VEC_GP, 0);
      return;
    }
    store<u64>(RSP, mergeSp(load<u64>(RSP) + <u64>size));
    replaceFlags(image, FLAGS_FREE);
    setVif((image & FLAG_IF) != 0);
    return;
  }
  let mask = changeableFlags(size, load<u32>(CPL), false);
  if (vm86()) mask = FLAGS_FREE | FLAG_IF | (size > 2 ? FLAGS_WIDE : 0);
  // POPF clears RF
  if (size > 2) mask |= FLAG_RF;
  store<u64>(RSP, mergeSp(load<u64>(RSP) + <u64>size));
  if (replaceFlags(image & ~(<u64>FLAG_RF), mask)) recomputeMode();
}
