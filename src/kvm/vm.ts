import type { Policy, PolicyOptions } from "../policy/index.ts";
import { checkEach, checkStruct, checkU64, checkUint, MSI, type Shape } from "./args.ts";
import {
  checkExtension,
  KVM_CAP_DISABLE_QUIRKS,
  KVM_CAP_DISABLE_QUIRKS2,
  KVM_CAP_EXCEPTION_PAYLOAD,
  KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
  KVM_CAP_MSR_PLATFORM_INFO,
  KVM_CAP_SPLIT_IRQCHIP,
  KVM_CAP_X86_TRIPLE_FAULT_EVENT,
  KVM_CAP_X86_USER_SPACE_MSR,
  KVM_MAX_VCPU_IDS,
  KVM_MAX_VCPUS,
  memSlots,
} from "./capabilities.ts";
import {
  type ClearDirtyLog,
  clearDirtyLog,
  getDirtyLog,
  KVM_DIRTY_LOG_INITIALLY_SET,
  KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE,
} from "./dirty-log.ts";
import { EptTables } from "./ept.ts";
import { KvmError } from "./errors.ts";
import type { Host } from "./host.ts";
import { type GsiRoute, IOAPIC_PINS, IrqChip, type Msi } from "./irqchip.ts";
import { getIrqchip, getPit2, type IrqchipState, reinjectControl, setIrqchip, setPit2 } from "./irqchip-state.ts";
import type { PitState2 } from "./kernel-pit.ts";
import { MemorySlots, type UserMemoryRegion } from "./memory-slots.ts";
import { msrBitmap } from "./msr-bitmap.ts";
import { KVM_MSR_EXIT_REASON_VALID_MASK } from "./msr-exits.ts";
import { type MsrFilter, makeMsrFilter } from "./msr-filter.ts";
import { KVM_X86_VALID_QUIRKS } from "./quirks.ts";
import { checkTscKhz } from "./tsc.ts";
import { TSC_KHZ } from "./tsc-ratio.ts";
import type { VmState } from "./vcpu.ts";
import { Vcpu } from "./vcpu-api.ts";
import type { KernelRules } from "./version.ts";

const PAGE = 4096n;
/** Three pages above this address hold what real mode without "unrestricted guest" would need. */
const HIGHEST_TSS = 0xffff_ffffn - 3n * PAGE;

function checkLine(call: string, gsi: number, level: boolean): void {
  checkStruct(call, "", { gsi, level }, { gsi: 32, level: "bool" });
}

/** A virtual machine: memory slots and vCPUs. */
export class Vm {
  readonly #state: VmState;
  readonly #vcpus = new Map<number, Vcpu>();

  constructor(
    host: Host,
    rules: KernelRules,
    private readonly policy: Policy,
    private readonly policyOptions: Partial<PolicyOptions>,
  ) {
    const initiallySet = (): boolean => (this.#state.manualDirtyLogProtect & KVM_DIRTY_LOG_INITIALLY_SET) !== 0;
    this.#state = {
      host,
      rules,
      slots: new MemorySlots(host.core, host.pages, memSlots(rules), initiallySet),
      ept: new EptTables(host.core, host.pages),
      irqchip: undefined,
      defaultTscKhz: TSC_KHZ,
      guestCanReadPlatformInfo: true,
      disabledQuirks: 0,
      userSpaceMsrMask: 0,
      msrFilter: undefined,
      manualDirtyLogProtect: 0,
      exceptionPayload: false,
      tripleFaultEvent: false,
    };
  }

  /** Zeroed memory of the VMM for userspaceAddr, as mmap gives it. */
  allocMemory(bytes: bigint): bigint {
    return this.#state.slots.allocMemory(bytes);
  }

  /** The VMM's own reads and writes of what allocMemory gave. */
  readMemory(userspaceAddr: bigint, size: number): Uint8Array {
    return this.#state.slots.readUser(userspaceAddr, size);
  }

  writeMemory(userspaceAddr: bigint, bytes: Uint8Array): void {
    this.#state.slots.writeUser(userspaceAddr, bytes);
  }

  /** KVM_CHECK_EXTENSION on the VM. */
  checkExtension(capability: number): number {
    return checkExtension(this.#state.rules, capability);
  }

  /** KVM_SET_USER_MEMORY_REGION; KvmError EINVAL or EEXIST. Size 0 deletes the slot. */
  setUserMemoryRegion(region: UserMemoryRegion): void {
    if (!this.#state.slots.setUserMemoryRegion(region)) return;
    this.#state.ept.zapAll();
    this.#state.host.vmx.inveptSingle(this.#state.ept.eptp);
  }

  /** KVM_GET_DIRTY_LOG: a bit a page of the slot; KvmError ENOENT when it logs none. */
  getDirtyLog(slot: number): Uint8Array {
    return getDirtyLog(this.#state, slot);
  }

  /** KVM_CLEAR_DIRTY_LOG, for KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2. */
  clearDirtyLog(log: ClearDirtyLog): void {
    clearDirtyLog(this.#state, log);
  }

  /** KVM_CREATE_VCPU; KvmError EEXIST for an id in use, EINVAL for one too large. */
  createVcpu(id: number): Vcpu {
    const call = "KVM_CREATE_VCPU";
    checkUint(call, "the id", id, 32);
    if (id >= KVM_MAX_VCPU_IDS) throw new KvmError(call, "EINVAL", `there is no vCPU id ${id}`);
    if (this.#vcpus.size >= KVM_MAX_VCPUS)
      throw new KvmError(call, "EINVAL", `${KVM_MAX_VCPUS} vCPUs are there already`);
    if (this.#vcpus.has(id)) throw new KvmError(call, "EEXIST", `there is a vCPU ${id}`);
    const vcpu = new Vcpu(this.#state, id, this.policy, this.policyOptions);
    this.#vcpus.set(id, vcpu);
    return vcpu;
  }

  /** KVM_ENABLE_CAP on the VM; KvmError EINVAL for what cannot be enabled or has no such bits. */
  enableCap(cap: number, args: readonly number[] = []): void {
    const state = this.#state;
    checkUint("KVM_ENABLE_CAP", "the capability", cap, 32);
    checkEach("KVM_ENABLE_CAP", "args", args, (name, one) => checkUint("KVM_ENABLE_CAP", name, one, 32));
    const [first = 0] = args;
    const bits = (mask: number): number => {
      if (first & ~mask)
        throw new KvmError("KVM_ENABLE_CAP", "EINVAL", `capability ${cap}: unknown bits in 0x${first.toString(16)}`);
      return first;
    };
    const modern = state.rules.userSpaceMsr;
    if (cap === KVM_CAP_MSR_PLATFORM_INFO) state.guestCanReadPlatformInfo = first !== 0;
    else if (cap === KVM_CAP_EXCEPTION_PAYLOAD) state.exceptionPayload = first !== 0;
    else if (cap === KVM_CAP_SPLIT_IRQCHIP) {
      if (first > IOAPIC_PINS) throw new KvmError("KVM_ENABLE_CAP", "EINVAL", `${first} GSIs, at most ${IOAPIC_PINS}`);
      this.#newIrqchip("KVM_ENABLE_CAP", Math.max(1, first));
    } else if (cap === KVM_CAP_DISABLE_QUIRKS) state.disabledQuirks = first;
    else if (modern && cap === KVM_CAP_DISABLE_QUIRKS2) state.disabledQuirks |= bits(KVM_X86_VALID_QUIRKS);
    else if (modern && cap === KVM_CAP_X86_USER_SPACE_MSR)
      state.userSpaceMsrMask = bits(KVM_MSR_EXIT_REASON_VALID_MASK);
    else if (modern && cap === KVM_CAP_X86_TRIPLE_FAULT_EVENT) state.tripleFaultEvent = first !== 0;
    else if (modern && cap === KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) {
      // the second bit only together with the first
      const manual = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;
      state.manualDirtyLogProtect = bits(first & manual ? manual | KVM_DIRTY_LOG_INITIALLY_SET : manual);
    } else throw new KvmError("KVM_ENABLE_CAP", "EINVAL", `capability ${cap} cannot be enabled`);
  }

  /** KVM_CREATE_IRQCHIP: 8259s, I/O APIC and local APICs, before the vCPUs. KvmError EEXIST, EINVAL. */
  createIrqchip(): void {
    this.#newIrqchip("KVM_CREATE_IRQCHIP", 0);
  }

  #newIrqchip(call: string, splitPins: number): void {
    const state = this.#state;
    if (state.irqchip !== undefined) throw new KvmError(call, "EEXIST", "there are interrupt controllers already");
    if (this.#vcpus.size > 0) throw new KvmError(call, "EINVAL", "there are vCPUs already");
    state.irqchip = new IrqChip(state.host, splitPins);
  }

  #irqchip(call: string, errno: "ENXIO" | "EINVAL"): IrqChip {
    const { irqchip } = this.#state;
    if (irqchip === undefined) throw new KvmError(call, errno, "there are no interrupt controllers in the kernel");
    irqchip.sync();
    return irqchip;
  }

  /** KVM_CREATE_PIT2: the 8254 on GSI 0. KvmError ENOENT without KVM_CREATE_IRQCHIP, EEXIST. */
  createPit2(options: { readonly flags?: number } = {}): void {
    checkUint("KVM_CREATE_PIT2", "flags", options.flags ?? 0, 32);
    const chip = this.#state.irqchip;
    if (chip?.pic === undefined) throw new KvmError("KVM_CREATE_PIT2", "ENOENT", "there is no in-kernel irqchip");
    if (chip.pit !== undefined) throw new KvmError("KVM_CREATE_PIT2", "EEXIST", "there is an 8254 already");
    chip.createPit(options.flags ?? 0);
  }

  /** KVM_IRQ_LINE: level of a GSI. KvmError ENXIO. */
  irqLine(gsi: number, level: boolean): void {
    checkLine("KVM_IRQ_LINE", gsi, level);
    this.#irqchip("KVM_IRQ_LINE", "ENXIO").setIrq(gsi, level);
  }

  /** KVM_IRQ_LINE_STATUS: how many targets it reached, 0 merged with a pending one, -1 masked. KvmError ENXIO. */
  irqLineStatus(gsi: number, level: boolean): number {
    checkLine("KVM_IRQ_LINE_STATUS", gsi, level);
    return this.#irqchip("KVM_IRQ_LINE_STATUS", "ENXIO").setIrq(gsi, level);
  }

  /** KVM_SIGNAL_MSI: how many local APICs took it. KvmError EINVAL. */
  signalMsi(msi: Msi): number {
    checkStruct("KVM_SIGNAL_MSI", "", msi, MSI);
    return this.#irqchip("KVM_SIGNAL_MSI", "EINVAL").signalMsi(msi);
  }

  /** KVM_SET_GSI_ROUTING: the whole table. KvmError EINVAL. */
  setGsiRouting(routes: readonly GsiRoute[]): void {
    const call = "KVM_SET_GSI_ROUTING";
    checkEach(call, "routes", routes, (name, route) => {
      checkStruct(call, name, route, { gsi: 32 });
      const shape: Shape = "msi" in (route as object) ? { msi: MSI } : { irqchip: 32, pin: 32 };
      checkStruct(call, name, route, shape);
    });
    this.#irqchip("KVM_SET_GSI_ROUTING", "EINVAL").setRoutes(routes);
  }

  /** KVM_GET_IRQCHIP: 0 and 1 the 8259s, 2 the I/O APIC. KvmError ENXIO, EINVAL. */
  getIrqchip(chipId: number): IrqchipState {
    return getIrqchip(this.#state.irqchip, chipId);
  }

  /** KVM_SET_IRQCHIP. KvmError ENXIO, EINVAL. */
  setIrqchip(state: IrqchipState): void {
    setIrqchip(this.#state.irqchip, state);
  }

  /** KVM_GET_PIT2. KvmError ENXIO. */
  getPit2(): PitState2 {
    return getPit2(this.#state.irqchip);
  }

  /** KVM_SET_PIT2: as it is given; the count of channel 0 starts anew. KvmError ENXIO. */
  setPit2(state: PitState2): void {
    setPit2(this.#state.irqchip, state);
  }

  /** KVM_REINJECT_CONTROL: whether ticks of the 8254 wait for the interrupt before, as they do at first. KvmError ENXIO. */
  reinjectControl(control: { readonly pitReinject: boolean }): void {
    checkStruct("KVM_REINJECT_CONTROL", "", control, { pitReinject: "bool" });
    reinjectControl(this.#state.irqchip, control.pitReinject);
  }

  /** KVM_X86_SET_MSR_FILTER; the last one set holds. KvmError EINVAL. */
  setMsrFilter(filter: MsrFilter): void {
    if (!this.#state.rules.userSpaceMsr) {
      throw new KvmError("KVM_X86_SET_MSR_FILTER", "ENOTTY", `Linux ${this.#state.rules.version} has no MSR filter`);
    }
    this.#state.msrFilter = makeMsrFilter(filter);
    const bitmap = msrBitmap(this.#state.msrFilter);
    for (const { vmx } of this.#vcpus.values()) this.#state.host.core.writePhysical(vmx.msrBitmap, bitmap);
  }

  /** KVM_GET_TSC_KHZ on the VM: what new vCPUs start with. */
  getTscKhz(): number {
    return this.#state.defaultTscKhz;
  }

  /** KVM_SET_TSC_KHZ on the VM, before the first vCPU. KvmError EINVAL, ENOTTY before KVM_CAP_VM_TSC_CONTROL. */
  setTscKhz(khz: number): void {
    const { rules } = this.#state;
    if (!rules.userSpaceMsr)
      throw new KvmError("KVM_SET_TSC_KHZ", "ENOTTY", `Linux ${rules.version} has it on vCPUs only`);
    const checked = checkTscKhz(khz);
    if (this.#vcpus.size > 0) throw new KvmError("KVM_SET_TSC_KHZ", "EINVAL", "there are vCPUs already");
    this.#state.defaultTscKhz = checked;
  }

  /** KVM_SET_TSS_ADDR: checked and otherwise without effect, since every guest is unrestricted. */
  setTssAddr(address: bigint): void {
    checkU64("KVM_SET_TSS_ADDR", "the address", address);
    if (address > HIGHEST_TSS) throw new KvmError("KVM_SET_TSS_ADDR", "EINVAL", "the three pages end above 4 GiB");
  }

  /** KVM_SET_IDENTITY_MAP_ADDR: before the first vCPU; without effect, as KVM_SET_TSS_ADDR. */
  setIdentityMapAddr(address: bigint): void {
    checkU64("KVM_SET_IDENTITY_MAP_ADDR", "the address", address);
    if (this.#vcpus.size > 0) throw new KvmError("KVM_SET_IDENTITY_MAP_ADDR", "EINVAL", "there are vCPUs already");
  }
}
