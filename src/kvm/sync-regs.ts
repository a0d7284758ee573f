import { getRegs, getSregs, setRegs, setSregs } from "./registers.ts";
import {
  EVENTS_BYTES,
  REGS_BYTES,
  readEvents,
  readRegs,
  readSregs,
  SREGS_BYTES,
  writeEvents,
  writeRegs,
  writeSregs,
} from "./structs.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { getVcpuEvents, setVcpuEvents } from "./vcpu-events.ts";

export const KVM_SYNC_X86_REGS = 1n;
export const KVM_SYNC_X86_SREGS = 2n;
export const KVM_SYNC_X86_EVENTS = 4n;
export const KVM_SYNC_X86_VALID_FIELDS = 7n;

interface Parts {
  readonly regs: DataView;
  readonly sregs: DataView;
  readonly events: DataView;
}

function parts(vcpu: VcpuVmx): Parts {
  const { buffer, byteOffset } = vcpu.run.syncRegs;
  return {
    regs: new DataView(buffer, byteOffset, REGS_BYTES),
    sregs: new DataView(buffer, byteOffset + REGS_BYTES, SREGS_BYTES),
    events: new DataView(buffer, byteOffset + REGS_BYTES + SREGS_BYTES, EVENTS_BYTES),
  };
}

/** What user space changed goes in before the run. @kvm sync_regs */
export function syncRegs(vcpu: VcpuVmx): void {
  const { run } = vcpu;
  const dirty = run.dirtyRegs;
  if (dirty === 0n) return;
  const { regs, sregs, events } = parts(vcpu);
  if (dirty & KVM_SYNC_X86_REGS) {
    setRegs(vcpu, readRegs(regs));
    run.dirtyRegs &= ~KVM_SYNC_X86_REGS;
  }
  if (dirty & KVM_SYNC_X86_SREGS) {
    setSregs(vcpu, readSregs(sregs));
    run.dirtyRegs &= ~KVM_SYNC_X86_SREGS;
  }
  if (dirty & KVM_SYNC_X86_EVENTS) {
    setVcpuEvents(vcpu, readEvents(events));
    run.dirtyRegs &= ~KVM_SYNC_X86_EVENTS;
  }
}

/** What user space asked to see, after the run. @kvm store_regs */
export function storeRegs(vcpu: VcpuVmx): void {
  const valid = vcpu.run.validRegs;
  if (valid === 0n) return;
  const { regs, sregs, events } = parts(vcpu);
  if (valid & KVM_SYNC_X86_REGS) writeRegs(regs, getRegs(vcpu));
  if (valid & KVM_SYNC_X86_SREGS) writeSregs(sregs, getSregs(vcpu));
  if (valid & KVM_SYNC_X86_EVENTS) writeEvents(events, getVcpuEvents(vcpu));
}
