import { DR6 } from "../../assembly/abi/state.ts";
import { kvmEmulateCpuid } from "./cpuid.ts";
import { handleTaskSwitch } from "./emulate.ts";
import { handleEptViolation } from "./ept-violation.ts";
import {
  AC_VECTOR,
  BP_VECTOR,
  DB_VECTOR,
  kvmInjectGp,
  kvmQueueDebug,
  kvmQueueException,
  kvmRequireCpl,
  MC_VECTOR,
  UD_VECTOR,
} from "./events.ts";
import { KVM_INTERNAL_ERROR_EMULATION, KVM_INTERNAL_ERROR_SIMUL_EX } from "./exit.ts";
import { exitDebug, KVM_GUESTDBG_SINGLESTEP, KVM_GUESTDBG_USE_HW_BP, kvmGetLinearRip } from "./guest-debug.ts";
import { handleCr, handleDr } from "./handle-cr.ts";
import { handleIo } from "./io.ts";
import { KVM_MP_STATE_HALTED } from "./lapic.ts";
import { internalError, LAST_VMENTRY_CPU } from "./leave-guest.ts";
import { handleRdmsr, handleWrmsr } from "./msr-exits.ts";
import { KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS } from "./quirks.ts";
import { kvmSkipEmulatedInstruction } from "./skip.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { ExitReason, INTR_ERROR_CODE, INTR_TYPE, INTR_VALID, INTR_VECTOR, IntrType, Primary } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

/** True: back into the guest. False: `userExit` says why not. */
export type ExitHandler = (vcpu: VcpuVmx) => boolean;

const RAX = 0;

/** Without an in-kernel APIC the halt is user space's. @kvm kvm_emulate_halt, kvm_vcpu_halt */
function handleHalt(vcpu: VcpuVmx): boolean {
  vcpu.host.ledger.count("halt_exits");
  const again = kvmSkipEmulatedInstruction(vcpu);
  if (vcpu.apic !== undefined) {
    vcpu.arch.mpState = KVM_MP_STATE_HALTED;
    return again;
  }
  vcpu.userExit = { reason: "hlt" };
  return false;
}

const DR6_TRAP_BITS = 0xfn;

/** @kvm handle_exception */
function handleException(vcpu: VcpuVmx): boolean {
  const info = vcpu.exitIntrInfo;
  if ((info & INTR_TYPE) === IntrType.NMI) return true; // delivered to the host
  const vector = info & INTR_VECTOR;
  const errorCode = info & INTR_ERROR_CODE ? vcpu.vmread32(Field.VM_EXIT_INTR_ERROR_CODE) : undefined;
  if (vector === UD_VECTOR) {
    kvmQueueException(vcpu, UD_VECTOR);
    return true;
  }
  if (vcpu.idtVectoringInfo & INTR_VALID && ![DB_VECTOR, AC_VECTOR].includes(vector)) {
    const words = [vcpu.idtVectoringInfo, info, errorCode ?? 0].map((word) => BigInt(word >>> 0));
    if (vcpu.vm.rules.internalErrorData) words.push(LAST_VMENTRY_CPU);
    return internalError(vcpu, KVM_INTERNAL_ERROR_SIMUL_EX, words, atEvent(vcpu));
  }
  switch (vector) {
    case DB_VECTOR: {
      const { core } = vcpu.host;
      const dr6 = vcpu.vmread(Field.EXIT_QUALIFICATION);
      if (vcpu.arch.guestDebug & (KVM_GUESTDBG_SINGLESTEP | KVM_GUESTDBG_USE_HW_BP)) return exitDebug(vcpu, dr6);
      core.write64(DR6, (core.read64(DR6) & ~DR6_TRAP_BITS) | dr6);
      kvmQueueDebug(vcpu, dr6);
      return true;
    }
    case BP_VECTOR:
      vcpu.arch.eventExitInstLen = vcpu.vmread32(Field.VM_EXIT_INSTRUCTION_LEN);
      vcpu.userExit = { reason: "debug", exception: BP_VECTOR, pc: kvmGetLinearRip(vcpu), dr6: 0n, dr7: 0n };
      return false;
    case AC_VECTOR:
      kvmQueueException(vcpu, AC_VECTOR, errorCode ?? 0);
      return true;
    case MC_VECTOR:
      return true;
  }
  return internalError(vcpu, KVM_INTERNAL_ERROR_EMULATION, [BigInt(vector)], atEvent(vcpu));
}

function atEvent(vcpu: VcpuVmx): string {
  return `exit ${vcpu.exitReason} at rip 0x${vcpu.rip.toString(16)} with event 0x${(vcpu.exitIntrInfo >>> 0).toString(16)}`;
}

/** @kvm handle_external_interrupt */
function handleExternalInterrupt(vcpu: VcpuVmx): boolean {
  vcpu.host.ledger.count("irq_exits");
  return true;
}

/** @kvm handle_triple_fault */
function handleTripleFault(vcpu: VcpuVmx): boolean {
  vcpu.userExit = { reason: "shutdown" };
  return false;
}

/** @kvm handle_interrupt_window */
function handleInterruptWindow(vcpu: VcpuVmx): boolean {
  vcpu.host.vmx.clearBits(Field.CPU_BASED_VM_EXEC_CONTROL, Primary.VIRTUAL_INTR_PENDING);
  vcpu.host.ledger.count("irq_window_exits");
  return true;
}

/** @kvm handle_nmi_window */
function handleNmiWindow(vcpu: VcpuVmx): boolean {
  vcpu.host.vmx.clearBits(Field.CPU_BASED_VM_EXEC_CONTROL, Primary.VIRTUAL_NMI_PENDING);
  vcpu.host.ledger.count("nmi_window_exits");
  return true;
}

/** Guests see no VMX. @kvm handle_vmx_instruction (nested off) */
function handleVmxInstruction(vcpu: VcpuVmx): boolean {
  kvmQueueException(vcpu, UD_VECTOR);
  return true;
}

const KVM_ENOSYS = 1000n;
const KVM_EPERM = 1n;

/** No hypercall is built: -KVM_ENOSYS, -KVM_EPERM above CPL 0. @kvm kvm_emulate_hypercall */
function handleVmcall(vcpu: VcpuVmx): boolean {
  const cpl = (vcpu.vmread32(Field.GUEST_SS_AR_BYTES) >> 5) & 3;
  const result = BigInt.asUintN(64, cpl === 0 ? -KVM_ENOSYS : -KVM_EPERM);
  const long = (vcpu.vmread32(Field.GUEST_CS_AR_BYTES) & (1 << 13)) !== 0;
  vcpu.setGpr(RAX, long ? result : result & 0xffff_ffffn);
  return kvmSkipEmulatedInstruction(vcpu);
}

const MWAIT_FEATURE = 1 << 3;

/** No operation, or #UD where the guest has no MONITOR and the quirk is off. @kvm kvm_emulate_monitor_mwait */
function handleMonitorMwait(vcpu: VcpuVmx): boolean {
  const { rules, disabledQuirks } = vcpu.vm;
  const strict = rules.userSpaceMsr && (disabledQuirks & KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS) !== 0;
  const leaf1 = vcpu.arch.cpuid.find((entry) => entry.function === 1);
  if (strict && !((leaf1?.ecx ?? 0) & MWAIT_FEATURE)) {
    kvmQueueException(vcpu, UD_VECTOR);
    return true;
  }
  return kvmSkipEmulatedInstruction(vcpu);
}

/** No XSAVE is passed on, so CR4.OSXSAVE is a reserved bit. @kvm handle_xsetbv */
function handleXsetbv(vcpu: VcpuVmx): boolean {
  if (kvmRequireCpl(vcpu, 0)) kvmInjectGp(vcpu, 0);
  return true;
}

/** There are no performance counters. @kvm handle_rdpmc */
function handleRdpmc(vcpu: VcpuVmx): boolean {
  kvmInjectGp(vcpu, 0);
  return true;
}

function handleEptMisconfig(vcpu: VcpuVmx): boolean {
  vcpu.userExit = { reason: "unknown", hardwareExitReason: BigInt(ExitReason.EPT_MISCONFIG) };
  return false;
}

/** Handlers by basic exit reason. @kvm kvm_vmx_exit_handlers */
export const EXIT_HANDLERS: ReadonlyMap<number, ExitHandler> = new Map<number, ExitHandler>([
  [ExitReason.EXCEPTION_NMI, handleException],
  [ExitReason.EXTERNAL_INTERRUPT, handleExternalInterrupt],
  [ExitReason.TRIPLE_FAULT, handleTripleFault],
  [ExitReason.PENDING_INTERRUPT, handleInterruptWindow],
  [ExitReason.NMI_WINDOW, handleNmiWindow],
  [ExitReason.TASK_SWITCH, handleTaskSwitch],
  [ExitReason.CPUID, kvmEmulateCpuid],
  [ExitReason.HLT, handleHalt],
  [ExitReason.INVD, kvmSkipEmulatedInstruction],
  [ExitReason.INVLPG, kvmSkipEmulatedInstruction],
  [ExitReason.RDPMC, handleRdpmc],
  [ExitReason.VMCALL, handleVmcall],
  [ExitReason.VMCLEAR, handleVmxInstruction],
  [ExitReason.VMLAUNCH, handleVmxInstruction],
  [ExitReason.VMPTRLD, handleVmxInstruction],
  [ExitReason.VMPTRST, handleVmxInstruction],
  [ExitReason.VMREAD, handleVmxInstruction],
  [ExitReason.VMRESUME, handleVmxInstruction],
  [ExitReason.VMWRITE, handleVmxInstruction],
  [ExitReason.VMOFF, handleVmxInstruction],
  [ExitReason.VMON, handleVmxInstruction],
  [ExitReason.CR_ACCESS, handleCr],
  [ExitReason.DR_ACCESS, handleDr],
  [ExitReason.IO_INSTRUCTION, handleIo],
  [ExitReason.MSR_READ, handleRdmsr],
  [ExitReason.MSR_WRITE, handleWrmsr],
  [ExitReason.MWAIT_INSTRUCTION, handleMonitorMwait],
  [ExitReason.MONITOR_INSTRUCTION, handleMonitorMwait],
  [ExitReason.EPT_VIOLATION, handleEptViolation],
  [ExitReason.EPT_MISCONFIG, handleEptMisconfig],
  [ExitReason.INVEPT, handleVmxInstruction],
  [ExitReason.INVVPID, handleVmxInstruction],
  [ExitReason.WBINVD, kvmSkipEmulatedInstruction],
  [ExitReason.XSETBV, handleXsetbv],
]);
