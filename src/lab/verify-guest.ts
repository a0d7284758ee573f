// verifyTiers() for a guest under VMX: KVM's paths run on both sides, on two hosts.
import type { JitOptions } from "../core/index.ts";
import { exitReasonName } from "../kvm/index.ts";
import { nextInstruction, processorRegisters, vmcsValues } from "../kvm/look.ts";
import {
  COMPARED_MSRS,
  REP_BOUND,
  type VerifiedGuest,
  type VerifyResult,
  type VerifyTiersOptions,
  verifyTiers,
} from "../machine/verifyTiers.ts";
import { type GuestEnding, Vmm, type VmmOptions } from "./vmm.ts";

export interface VerifyGuestOptions
  extends VerifyTiersOptions,
    Omit<VmmOptions, "maxInstructions" | "console" | "host" | "pauseAt"> {}

export interface VerifyGuestResult extends VerifyResult<GuestEnding> {
  /** What the interpreter's guest put out. */
  readonly output: string;
}

interface VmxGuest extends VerifiedGuest<GuestEnding> {
  readonly output: string;
}

function guestOf(options: VerifyGuestOptions, jit: false | JitOptions): VmxGuest {
  const { maxInstructions: _bound, hostOptions, ...rest } = options;
  let output = "";
  let until = 0n;
  const vmm = new Vmm({
    ...rest,
    hostOptions: { ...hostOptions, jit },
    pauseAt: () => until,
    console: (byte) => {
      output += String.fromCharCode(byte);
    },
  });
  const { vcpu } = vmm;
  const { host } = vmm.kvm;
  const { core } = host;
  const steps = vmm.runSteps();
  return {
    get output() {
      return output;
    },
    get count() {
      return core.count;
    },
    get functions() {
      return core.linker.statistics.functions;
    },
    advance(instructions) {
      until = core.count + BigInt(instructions);
      const step = steps.next(BigInt(2 * instructions + REP_BOUND));
      return step.done ? { exit: step.value, ended: true } : { exit: { kind: "limit" }, ended: false };
    },
    *values() {
      yield* Object.entries(processorRegisters(vcpu.vmx));
      yield* vmcsValues(vcpu.vmx);
      for (const msr of COMPARED_MSRS) yield [`msr 0x${msr.toString(16)}`, core.rdmsr(msr)];
      for (const [reason, count] of host.ledger.exitsByReason) yield [`exits ${exitReasonName(reason)}`, count];
      yield* Object.entries(host.ledger.counts);
      yield ["output", output];
    },
    *memory() {
      const { backing, own } = host.pages.ranges;
      for (const { address, pages } of [...backing, own]) {
        yield { address, bytes: core.readPhysical(address, pages * 4096) };
      }
    },
    registers: () => processorRegisters(vcpu.vmx),
    next: () => nextInstruction(vcpu.vmx),
  };
}

/**
 * Runs a guest under VMX on the interpreter and with generated code in lock-step. Compares the processor's registers, the VMCS,
 * MSRs, VM exits, what the ledger counted, the guest's output, and now and then the host's memory, and finds the first difference.
 * Addresses in it are those of the host.
 */
export async function verifyGuestUnderVmx(options: VerifyGuestOptions): Promise<VerifyGuestResult> {
  let plain: VmxGuest | undefined;
  const result = await verifyTiers((jit) => {
    const guest = guestOf(options, jit);
    if (jit === false) plain ??= guest;
    return guest;
  }, options);
  return { ...result, output: plain?.output ?? "" };
}
