import type { KvmExit } from "./exit.ts";

const PAGE = 4096;
/** One page of struct kvm_run, the PIO page, the coalesced MMIO page. @kvm kvm_dev_ioctl */
export const VCPU_MMAP_SIZE: number = 3 * PAGE;
/** KVM_PIO_PAGE_OFFSET */
const PIO_OFFSET = PAGE;

// struct kvm_run
const REQUEST_INTERRUPT_WINDOW = 0; // u8
const IMMEDIATE_EXIT = 1; // u8
const EXIT_REASON = 8; // u32
const READY_FOR_INTERRUPT_INJECTION = 12; // u8
const IF_FLAG = 13; // u8
const FLAGS = 14; // u16
const CR8 = 16; // u64
const APIC_BASE = 24; // u64
/** The union of exit payloads. */
const UNION = 32;
const UNION_BYTES = 256;
const MMIO_DATA = 40;
const VALID_REGS = 288; // u64
const DIRTY_REGS = 296; // u64
const SYNC_REGS = 304; // struct kvm_sync_regs
const SYNC_REGS_BYTES = 520;

/** KVM_EXIT_* by the name that KvmExit uses. */
export const KVM_EXIT: Readonly<Record<KvmExit["reason"], number>> = {
  unknown: 0,
  io: 2,
  debug: 4,
  hlt: 5,
  mmio: 6,
  irqWindowOpen: 7,
  shutdown: 8,
  failEntry: 9,
  intr: 10,
  setTpr: 11,
  internalError: 17,
  ioapicEoi: 26,
  x86Rdmsr: 29,
  x86Wrmsr: 30,
};

const EXIT_NAMES = new Map(
  Object.entries(KVM_EXIT).map(([name, number]) => [
    number,
    `KVM_EXIT_${name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`,
  ]),
);

/** The kernel's name of an exit reason. */
export function kvmExitName(reason: number): string {
  return EXIT_NAMES.get(reason) ?? `0x${reason.toString(16)}`;
}

/** What user space maps from the vCPU's file: struct kvm_run and the data of port I/O. */
export class RunPage {
  readonly bytes: Uint8Array = new Uint8Array(VCPU_MMAP_SIZE);
  readonly view: DataView = new DataView(this.bytes.buffer);

  get requestInterruptWindow(): boolean {
    return this.bytes[REQUEST_INTERRUPT_WINDOW] !== 0;
  }

  set requestInterruptWindow(value: boolean) {
    this.bytes[REQUEST_INTERRUPT_WINDOW] = value ? 1 : 0;
  }

  get immediateExit(): boolean {
    return this.bytes[IMMEDIATE_EXIT] !== 0;
  }

  set immediateExit(value: boolean) {
    this.bytes[IMMEDIATE_EXIT] = value ? 1 : 0;
  }

  get exitReason(): number {
    return this.view.getUint32(EXIT_REASON, true);
  }

  get readyForInterruptInjection(): boolean {
    return this.bytes[READY_FOR_INTERRUPT_INJECTION] !== 0;
  }

  get ifFlag(): boolean {
    return this.bytes[IF_FLAG] !== 0;
  }

  get flags(): number {
    return this.view.getUint16(FLAGS, true);
  }

  get cr8(): bigint {
    return this.view.getBigUint64(CR8, true);
  }

  set cr8(value: bigint) {
    this.view.setBigUint64(CR8, value, true);
  }

  get apicBase(): bigint {
    return this.view.getBigUint64(APIC_BASE, true);
  }

  get validRegs(): bigint {
    return this.view.getBigUint64(VALID_REGS, true);
  }

  set validRegs(mask: bigint) {
    this.view.setBigUint64(VALID_REGS, mask, true);
  }

  get dirtyRegs(): bigint {
    return this.view.getBigUint64(DIRTY_REGS, true);
  }

  set dirtyRegs(mask: bigint) {
    this.view.setBigUint64(DIRTY_REGS, mask, true);
  }

  /** struct kvm_sync_regs: kvm_regs, kvm_sregs, kvm_vcpu_events. */
  get syncRegs(): DataView {
    return new DataView(this.bytes.buffer, SYNC_REGS, SYNC_REGS_BYTES);
  }

  /** @kvm post_kvm_run_save */
  save(state: { readonly ready: boolean; readonly ifFlag: boolean; readonly cr8: bigint; readonly apicBase: bigint }) {
    this.bytes[READY_FOR_INTERRUPT_INJECTION] = state.ready ? 1 : 0;
    this.bytes[IF_FLAG] = state.ifFlag ? 1 : 0;
    this.view.setUint16(FLAGS, 0, true);
    this.view.setBigUint64(CR8, state.cr8, true);
    this.view.setBigUint64(APIC_BASE, state.apicBase, true);
  }

  /** The part of the PIO page that holds the items of one exit. */
  pioData(data: Uint8Array): Uint8Array {
    const part = this.bytes.subarray(PIO_OFFSET, PIO_OFFSET + data.length);
    part.set(data);
    return part;
  }

  /** kvm_run.mmio.data with these bytes; the rest of the eight is 0. */
  mmioData(data: Uint8Array): Uint8Array {
    this.bytes.fill(0, MMIO_DATA, MMIO_DATA + 8);
    const part = this.bytes.subarray(MMIO_DATA, MMIO_DATA + data.length);
    part.set(data);
    return part;
  }

  /** Answer of user space to a RDMSR or WRMSR exit. */
  get msrReply(): { readonly error: number; readonly data: bigint } {
    return { error: this.bytes[UNION]!, data: this.view.getBigUint64(48, true) };
  }

  set msrReply(reply: { readonly error?: number; readonly data?: bigint }) {
    if (reply.error !== undefined) this.bytes[UNION] = reply.error;
    if (reply.data !== undefined) this.view.setBigUint64(48, reply.data, true);
  }

  /** Exit reason and payload. Data of "io" and "mmio" are in the page already. */
  writeExit(exit: KvmExit): void {
    if (exit.reason === "intr" && exit.why === "immediateExit") return;
    const { view } = this;
    view.setUint32(EXIT_REASON, KVM_EXIT[exit.reason], true);
    if (exit.reason !== "mmio") this.bytes.fill(0, UNION, UNION + UNION_BYTES);
    switch (exit.reason) {
      case "unknown":
        view.setBigUint64(UNION, exit.hardwareExitReason, true);
        return;
      case "io":
        view.setUint8(UNION, exit.direction === "in" ? 0 : 1);
        view.setUint8(33, exit.size);
        view.setUint16(34, exit.port, true);
        view.setUint32(36, exit.count, true);
        view.setBigUint64(40, BigInt(PIO_OFFSET), true);
        return;
      case "debug":
        view.setUint32(UNION, exit.exception, true);
        view.setBigUint64(40, exit.pc, true);
        view.setBigUint64(48, exit.dr6, true);
        view.setBigUint64(56, exit.dr7, true);
        return;
      case "mmio":
        view.setBigUint64(UNION, exit.physAddr, true);
        view.setUint32(48, exit.length, true);
        view.setUint8(52, exit.isWrite ? 1 : 0);
        return;
      case "failEntry":
        view.setBigUint64(UNION, exit.hardwareEntryFailureReason, true);
        view.setUint32(40, exit.cpu, true);
        return;
      case "ioapicEoi":
        view.setUint8(UNION, exit.vector);
        return;
      case "internalError":
        view.setUint32(UNION, exit.suberror, true);
        view.setUint32(36, exit.data.length, true);
        exit.data.forEach((word, i) => {
          view.setBigUint64(40 + 8 * i, word, true);
        });
        return;
      case "x86Rdmsr":
      case "x86Wrmsr":
        view.setUint32(40, exit.msrReason, true);
        view.setUint32(44, exit.index, true);
        view.setBigUint64(48, exit.data, true);
    }
  }
}
