import { RunCode, VmxResult } from "../../assembly/abi/run.ts";
import { EMULATE, EV_FAULTS } from "../../assembly/abi/state.ts";
import { DB_VECTOR, kvmQueueException, reinjectEvent, UD_VECTOR, vmxGetCpl } from "./events.ts";
import { KVM_INTERNAL_ERROR_DELIVERY_EV, KVM_INTERNAL_ERROR_EMULATION } from "./exit.ts";
import { kernelMmioRead, kernelMmioWrite } from "./kernel-io.ts";
import {
  emulationFailureData,
  exitInfo,
  forceExit,
  internalError,
  LAST_VMENTRY_CPU,
  readExitFields,
} from "./leave-guest.ts";
import { KVM_MEM_READONLY } from "./memory-slots.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { ExitReason, INTR_VECTOR, Primary } from "./vmcs-controls.ts";
import { Field } from "./vmcs-fields.ts";

/** Units of work one emulation may take: enough for one instruction, and iterations of a REP that meet no device. */
const EMULATION_WORK = 4n;
const RCX = 1;

/** At most 8 bytes inside one page. @kvm struct kvm_mmio_fragment */
interface Fragment {
  readonly gpa: bigint;
  readonly data: Uint8Array;
}

/** Thrown into the processor to abandon an instruction whose read has no answer yet. */
class ReadNeeded {
  constructor(
    readonly gpa: bigint,
    readonly size: number,
  ) {}
}

function toValue(data: Uint8Array): bigint {
  return data.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
}

function toBytes(value: bigint, size: number): Uint8Array {
  return Uint8Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
}

/** @kvm vcpu_mmio_read, write_mmio, read_prepare, read_exit_mmio */
function traceMmio(
  { host }: VcpuVmx,
  type: "unsatisfied-read" | "read" | "write",
  address: bigint,
  size: number,
  value: bigint,
): void {
  host.trace?.({ name: "kvm_mmio", type, address, size, value });
}

/** Sends the instruction to the device callbacks and collects what it wrote. @kvm emulator_read_write */
function serve(vcpu: VcpuVmx, answers: readonly Fragment[], writes: Fragment[]): void {
  const { core } = vcpu.host;
  const { slots } = vcpu.vm;
  let used = 0;
  core.handlers.mmioRead = (gpa, size) => {
    const memory = slots.read(gpa, size);
    if (memory !== undefined) return toValue(memory);
    const device = kernelMmioRead(vcpu, gpa, size);
    if (device !== undefined) {
      traceMmio(vcpu, "read", gpa, size, device);
      return device;
    }
    const answer = answers[used++];
    if (answer === undefined) throw new ReadNeeded(gpa, size);
    return toValue(answer.data);
  };
  core.handlers.mmioWrite = (gpa, size, value) => {
    const slot = slots.find(gpa);
    if (slot !== undefined && !(slot.flags & KVM_MEM_READONLY)) {
      slots.write(gpa, toBytes(value, size));
      return;
    }
    traceMmio(vcpu, "write", gpa, size, value);
    if (kernelMmioWrite(vcpu, gpa, size, value)) return;
    writes.push({ gpa, data: toBytes(value, size) });
    // a REP goes no further than the iteration that wrote
    core.stopAfterInstruction();
  };
}

/** Enters the guest for one instruction that the processor runs against the fragments, and leaves it. */
function runOne(vcpu: VcpuVmx, answers: readonly Fragment[], writes: Fragment[]): ReadNeeded | undefined {
  const { core, vmx, ledger } = vcpu.host;
  const windows = vcpu.vmread32(Field.CPU_BASED_VM_EXEC_CONTROL);
  vmx.clearBits(Field.CPU_BASED_VM_EXEC_CONTROL, Primary.VIRTUAL_INTR_PENDING | Primary.VIRTUAL_NMI_PENDING);
  serve(vcpu, answers, writes);
  core.write32(EMULATE, 1);
  const faults = core.read64(EV_FAULTS);
  let code: RunCode = RunCode.Slice;
  let needed: ReadNeeded | undefined;
  const entered = core.exports.vmresume() === VmxResult.Succeed;
  try {
    if (entered) code = core.run(1n, EMULATION_WORK);
  } catch (error) {
    if (!(error instanceof ReadNeeded)) throw error;
    needed = error;
  } finally {
    core.write32(EMULATE, 0);
    core.handlers.mmioRead = undefined;
    core.handlers.mmioWrite = undefined;
  }
  ledger.count("injected_faults", Number(core.read64(EV_FAULTS) - faults));
  if (!entered) throw new Error(`VMRESUME of an emulated instruction failed with error ${vmx.instructionError()}`);
  if (code !== RunCode.VmExit) forceExit(vcpu);
  readExitFields(vcpu);
  vcpu.vmwrite(Field.CPU_BASED_VM_EXEC_CONTROL, windows);
  // whatever else the instruction met is handled before the next entry
  vcpu.exitPending = (vcpu.exitReason & 0xffff) !== ExitReason.EXTERNAL_INTERRUPT;
  return needed;
}

function isDebugTrap(vcpu: VcpuVmx): boolean {
  const exception = (vcpu.exitReason & 0xffff) === ExitReason.EXCEPTION_NMI;
  return exception && (vcpu.exitIntrInfo & INTR_VECTOR) === DB_VECTOR;
}

function exitMmio(vcpu: VcpuVmx, fragment: Fragment, write: boolean, complete: (data: Uint8Array) => boolean): false {
  const { gpa, data } = fragment;
  const length = data.length;
  const reply = vcpu.run.mmioData(data);
  vcpu.userExit = { reason: "mmio", physAddr: gpa, length, isWrite: write, data: reply };
  vcpu.arch.completeUserspaceIo = () => complete(reply.slice());
  return false;
}

/** One exit a fragment; the instruction has completed. @kvm complete_emulated_mmio */
function sendWrites(vcpu: VcpuVmx, writes: readonly Fragment[]): boolean {
  const [first, ...rest] = writes;
  if (first === undefined) return true;
  return exitMmio(vcpu, first, true, () => sendWrites(vcpu, rest));
}

/**
 * The instruction at RIP, with its accesses outside the memory slots as KVM_EXIT_MMIO. A read that user space has not
 * answered yet leaves the guest as it was; the next KVM_RUN replays the instruction with the answers so far.
 * @kvm x86_emulate_instruction
 */
export function x86EmulateInstruction(vcpu: VcpuVmx, answers: readonly Fragment[] = []): boolean {
  vcpu.host.ledger.count("insn_emulation");
  const writes: Fragment[] = [];
  const counter = vcpu.gpr(RCX);
  const needed = runOne(vcpu, answers, writes);
  if (needed !== undefined) {
    const { gpa, size } = needed;
    // iterations of a REP that are done have used their answers
    const kept = vcpu.gpr(RCX) === counter ? answers : [];
    const ask = { gpa, data: new Uint8Array(size) };
    traceMmio(vcpu, "unsatisfied-read", gpa, size, 0n);
    return exitMmio(vcpu, ask, false, (data) => {
      traceMmio(vcpu, "read", gpa, size, toValue(data));
      return x86EmulateInstruction(vcpu, [...kept, { gpa, data }]);
    });
  }
  if (vcpu.userExit !== undefined) return false;
  // a step over an instruction whose writes go to user space is lost
  if (writes.length > 0 && vcpu.exitPending && isDebugTrap(vcpu)) vcpu.exitPending = false;
  return sendWrites(vcpu, writes);
}

/**
 * The instruction or event that meant the task switch, once more and without the exit, as KVM's emulator would do it.
 * Exits it meets on the way (a task-state segment that has no EPT entry yet) are handled, and it is tried again.
 * @kvm handle_task_switch
 */
export function handleTaskSwitch(vcpu: VcpuVmx): boolean {
  reinjectEvent(vcpu);
  runOne(vcpu, [], []);
  return vcpu.userExit === undefined;
}

/** What cannot be emulated: #UD for the guest, and at CPL 0 an exit that says so. @kvm handle_emulation_failure */
export function handleEmulationFailure(vcpu: VcpuVmx, message: string): boolean {
  kvmQueueException(vcpu, UD_VECTOR);
  if (vmxGetCpl(vcpu) !== 0) return true;
  return internalError(vcpu, KVM_INTERNAL_ERROR_EMULATION, emulationFailureData(vcpu, new Uint8Array()), message);
}

/** An exit that cannot be handled while an event is being delivered. @kvm kvm_prepare_event_vectoring_exit */
export function prepareEventVectoringExit(vcpu: VcpuVmx, gpa: bigint, message: string): false {
  const [reason, qualification, vectoring] = exitInfo(vcpu);
  const data = [vectoring, reason, qualification, ...(vcpu.vm.rules.internalErrorData ? [gpa, LAST_VMENTRY_CPU] : [])];
  return internalError(vcpu, KVM_INTERNAL_ERROR_DELIVERY_EV, data, message);
}
