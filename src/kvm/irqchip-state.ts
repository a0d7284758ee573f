// struct kvm_irqchip from and to the devices.
import { APIC_ADDRESS, type PicChipState } from "../devices/index.ts";
import { checkEach, checkStruct, checkU64, IOAPIC_STATE, PIC_STATE, PIT_CHANNEL } from "./args.ts";
import { KvmError } from "./errors.ts";
import { ENTRY_RESERVED, IOAPIC_PINS, type IrqChip, KVM_IRQCHIP_IOAPIC } from "./irqchip.ts";
import type { PitState2 } from "./kernel-pit.ts";

const PIT_CHANNELS = 3;
export const KVM_APIC_REG_SIZE = 0x400;
export const APIC_DEFAULT_PHYS_BASE: bigint = BigInt(APIC_ADDRESS);
const ELCR_MASKS = [0xf8, 0xde] as const;

/** struct kvm_pic_state */
export interface PicState {
  lastIrr: number;
  irr: number;
  imr: number;
  isr: number;
  /** Line of the highest priority. */
  priorityAdd: number;
  irqBase: number;
  readRegSelect: number;
  poll: number;
  specialMask: number;
  initState: number;
  autoEoi: number;
  rotateOnAutoEoi: number;
  specialFullyNestedMode: number;
  init4: number;
  elcr: number;
  readonly elcrMask: number;
}

/** struct kvm_ioapic_state */
export interface IoapicState {
  readonly baseAddress: bigint;
  ioregsel: number;
  id: number;
  /** Lines that are asserted, without the edges that were delivered. */
  irr: number;
  /** 24 redirection entries. */
  redirtbl: bigint[];
}

/** struct kvm_irqchip: chip 0 or 1 an 8259, 2 the I/O APIC. */
export type IrqchipState =
  | { readonly chipId: 0 | 1; readonly pic: PicState }
  | { readonly chipId: 2; readonly ioapic: IoapicState };

/** KVM's init_state of the initialization word that is due. */
const INIT_STATE = { 0: 0, 2: 1, 3: 2, 4: 3 } as const;
const INIT_WORD = [0, 2, 3, 4] as const;

function fromPic(chip: PicChipState, id: 0 | 1): PicState {
  return {
    lastIrr: chip.inputs,
    irr: chip.irr,
    imr: chip.imr,
    isr: chip.isr,
    priorityAdd: (chip.lowest + 1) & 7,
    irqBase: chip.base,
    readRegSelect: Number(chip.readIsr),
    poll: Number(chip.poll),
    specialMask: Number(chip.specialMask),
    initState: INIT_STATE[chip.icw],
    autoEoi: Number(chip.autoEoi),
    rotateOnAutoEoi: Number(chip.rotateOnAutoEoi),
    specialFullyNestedMode: Number(chip.specialFullyNested),
    init4: Number(chip.needsIcw4),
    elcr: chip.elcr,
    elcrMask: ELCR_MASKS[id],
  };
}

function toPic(state: PicState, before: PicChipState): PicChipState {
  return {
    ...before,
    inputs: state.lastIrr,
    irr: state.irr,
    imr: state.imr,
    isr: state.isr,
    lowest: (state.priorityAdd + 7) & 7,
    base: state.irqBase,
    readIsr: state.readRegSelect !== 0,
    poll: state.poll !== 0,
    specialMask: state.specialMask !== 0,
    icw: INIT_WORD[state.initState & 3]!,
    autoEoi: state.autoEoi !== 0,
    rotateOnAutoEoi: state.rotateOnAutoEoi !== 0,
    specialFullyNested: state.specialFullyNestedMode !== 0,
    needsIcw4: state.init4 !== 0,
    elcr: state.elcr,
  };
}

function chipsOf(chip: IrqChip | undefined, call: string): Required<Pick<IrqChip, "pic" | "ioapic">> & IrqChip {
  const { pic, ioapic } = chip ?? {};
  if (chip === undefined || pic === undefined || ioapic === undefined) {
    throw new KvmError(call, "ENXIO", "there is no in-kernel irqchip");
  }
  return chip as ReturnType<typeof chipsOf>;
}

/** @kvm kvm_vm_ioctl_get_irqchip */
export function getIrqchip(irqchip: IrqChip | undefined, chipId: number): IrqchipState {
  const chip = chipsOf(irqchip, "KVM_GET_IRQCHIP");
  chip.sync();
  if (chipId === 0 || chipId === 1) {
    return { chipId, pic: fromPic(chip.pic!.save().chips[chipId]!, chipId) };
  }
  if (chipId !== KVM_IRQCHIP_IOAPIC) throw new KvmError("KVM_GET_IRQCHIP", "EINVAL", `there is no chip ${chipId}`);
  const { id, select, table, inputs } = chip.ioapic!.save();
  const irr = inputs & ~chip.irrDelivered;
  const ioapic = {
    baseAddress: chip.ioapicBase,
    ioregsel: select,
    id,
    irr,
    redirtbl: table.map((entry, pin) => entry | chip.reserved[pin]!),
  };
  return { chipId: KVM_IRQCHIP_IOAPIC, ioapic };
}

/** @kvm kvm_vm_ioctl_set_irqchip */
export function setIrqchip(irqchip: IrqChip | undefined, state: IrqchipState): void {
  const call = "KVM_SET_IRQCHIP";
  const chip = chipsOf(irqchip, call);
  checkStruct(call, "", state, { chipId: 32 });
  if (state.chipId === KVM_IRQCHIP_IOAPIC) {
    checkStruct(call, "ioapic", state.ioapic, IOAPIC_STATE);
    checkEach(call, "ioapic.redirtbl", state.ioapic.redirtbl, (name, entry) => checkU64(call, name, entry));
    const { redirtbl, ioregsel, id, irr, baseAddress } = state.ioapic;
    if (redirtbl.length !== IOAPIC_PINS) {
      throw new KvmError("KVM_SET_IRQCHIP", "EINVAL", `${redirtbl.length} redirection entries, not ${IOAPIC_PINS}`);
    }
    chip.irrDelivered = 0;
    chip.ioapicBase = baseAddress;
    redirtbl.forEach((entry, pin) => {
      chip.reserved[pin] = entry & ENTRY_RESERVED;
    });
    chip.ioapic!.restore({
      ...chip.ioapic!.save(),
      select: ioregsel,
      id,
      inputs: 0,
      table: redirtbl.map((entry) => entry & ~ENTRY_RESERVED),
    });
    chip.injectAll(irr);
    return;
  }
  if (state.chipId !== 0 && state.chipId !== 1) {
    throw new KvmError("KVM_SET_IRQCHIP", "EINVAL", `there is no chip ${(state as IrqchipState).chipId}`);
  }
  checkStruct(call, "pic", state.pic, PIC_STATE);
  const saved = chip.pic!.save();
  const chips = saved.chips.with(state.chipId, toPic(state.pic, saved.chips[state.chipId]!));
  chip.pic!.restore({ ...saved, chips });
}

function pitOf(irqchip: IrqChip | undefined, call: string): NonNullable<IrqChip["pit"]> {
  if (irqchip?.pit === undefined) throw new KvmError(call, "ENXIO", "there is no in-kernel 8254");
  return irqchip.pit;
}

/** @kvm kvm_vm_ioctl_get_pit2 */
export function getPit2(irqchip: IrqChip | undefined): PitState2 {
  return pitOf(irqchip, "KVM_GET_PIT2").save();
}

/** @kvm kvm_vm_ioctl_set_pit2 */
export function setPit2(irqchip: IrqChip | undefined, state: PitState2): void {
  const call = "KVM_SET_PIT2";
  const pit = pitOf(irqchip, call);
  checkStruct(call, "", state, { flags: 32 });
  checkEach(call, "channels", state.channels, (name, channel) => checkStruct(call, name, channel, PIT_CHANNEL));
  if (state.channels.length !== PIT_CHANNELS) {
    throw new KvmError(call, "EINVAL", `${state.channels.length} channels, not ${PIT_CHANNELS}`);
  }
  pit.restore(state);
}

/** @kvm kvm_vm_ioctl_reinject */
export function reinjectControl(irqchip: IrqChip | undefined, reinject: boolean): void {
  pitOf(irqchip, "KVM_REINJECT_CONTROL").setReinject(reinject);
}
