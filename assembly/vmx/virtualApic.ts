// The virtual-APIC page: TPR shadow, EOI and self-IPI virtualization, virtual interrupts, posted interrupts.
// @sdm 3C "APIC Virtualization and Virtual Interrupts"
//
// GUEST_INTERRUPT_STATUS: 7:0 RVI, the highest requested vector   15:8 SVI, the highest in service
import {
  PIN_PROCESS_POSTED_INTERRUPTS,
  PRIMARY_INTERRUPT_WINDOW_EXITING,
  PRIMARY_USE_TPR_SHADOW,
  SECONDARY_APIC_REGISTER_VIRTUALIZATION,
  SECONDARY_VIRTUAL_INTERRUPT_DELIVERY,
  SECONDARY_VIRTUALIZE_APIC_ACCESSES,
  SECONDARY_VIRTUALIZE_X2APIC_MODE,
} from "../abi/controls";
import { REASON_APIC_WRITE, REASON_TPR_BELOW_THRESHOLD, REASON_VIRTUALIZED_EOI } from "../abi/exits";
import { COMM_VALUE } from "../abi/run";
import {
  ACTIVITY,
  APIC_WRITE,
  EFLAGS_REST,
  EV_INJECTED,
  EventType,
  EXTRA,
  StopBit,
  TRAP_EXIT,
  TRAP_QUALIFICATION,
  VIRTUAL_INTERRUPT,
  VMCS_HOST,
} from "../abi/state";
import {
  V_EOI_EXIT_BITMAP_0,
  V_GUEST_INTERRUPT_STATUS,
  V_POSTED_INTERRUPT_DESCRIPTOR_ADDRESS,
  V_POSTED_INTERRUPT_NOTIFICATION_VECTOR,
  V_TPR_THRESHOLD,
  V_VIRTUAL_APIC_ADDRESS,
} from "../abi/vmcsLayout";
import { Activity, FLAG_IF } from "../abi/x86";
import { APIC_EOI, noteApic } from "../apic/local";
import { physRead32, physRead64, physWrite32, physWrite64 } from "../memory/physical";
import { recordExit } from "../state/exitRecord";
import { raiseSoft, stop } from "../state/stop";
import { pin, primary, secondary } from "./controls";
import { vmcs16, vmcs32, vmcs64 } from "./vmcs";

// page offsets
const TPR: u32 = 0x80;
const PPR: u32 = 0xa0;
const EOI: u32 = 0xb0;
const ISR: u32 = 0x100;
const IRR: u32 = 0x200;
const ICR_LOW: u32 = 0x300;
const ICR_HIGH: u32 = 0x310;
const SELF_IPI: u32 = 0x3f0;

/** What has to be 01B (19:18, the destination is self) or 0 (31:20, 17:15, 13, 12, 10:8) in a virtualized IPI. */
const ICR_CHECKED: u32 = 0xffffb700;
const ICR_SELF: u32 = 0x40000;

function register(offset: u32): u32 {
  return physRead32(vmcs64(V_VIRTUAL_APIC_ADDRESS) + offset);
}

function setRegister(offset: u32, value: u32): void {
  physWrite32(vmcs64(V_VIRTUAL_APIC_ADDRESS) + offset, value);
}

/** 256 bits in the low words of eight 16-byte regions. */
function setVector(base: u32, vector: u32, on: bool): void {
  const at = base + ((vector >> 5) << 4);
  const bit: u32 = 1 << (vector & 31);
  setRegister(at, on ? register(at) | bit : register(at) & ~bit);
}

/** Highest vector set, 0: none. */
function highest(base: u32): u32 {
  for (let i = 7; i >= 0; i--) {
    const word = register(base + ((<u32>i) << 4));
    if (word) return ((<u32>i) << 5) + 31 - clz<u32>(word);
  }
  return 0;
}

function rvi(): u32 {
  return vmcs16(V_GUEST_INTERRUPT_STATUS) & 0xff;
}
function svi(): u32 {
  return vmcs16(V_GUEST_INTERRUPT_STATUS) >> 8;
}
function setStatus(requested: u32, inService: u32): void {
  store<u16>(load<u32>(VMCS_HOST) + V_GUEST_INTERRUPT_STATUS, <u16>((inService << 8) | requested));
}

function deliversVirtual(): bool {
  return secondary(SECONDARY_VIRTUAL_INTERRUPT_DELIVERY);
}

/** A VM exit at the next boundary, after everything else of this instruction. */
function trapExit(reason: u32, qualification: u32): void {
  store<u32>(TRAP_EXIT, reason);
  store<u32>(TRAP_QUALIFICATION, qualification);
  store<u32>(EXTRA, 1);
  stop(StopBit.Leave);
}

/** @sdm 3C "Evaluation of Pending Virtual Interrupts" */
function evaluate(): void {
  const recognized = !primary(PRIMARY_INTERRUPT_WINDOW_EXITING) && rvi() >> 4 > (register(PPR) & 0xff) >> 4;
  store<u32>(VIRTUAL_INTERRUPT, recognized);
  if (!recognized) return;
  store<u32>(EXTRA, 1);
  stop(StopBit.Leave);
}

/** @sdm 3C "PPR Virtualization" */
function virtualizePpr(): void {
  const tpr = register(TPR) & 0xff;
  const service = svi();
  setRegister(PPR, tpr >> 4 >= service >> 4 ? tpr : service & 0xf0);
}

function belowThreshold(): bool {
  return (vmcs32(V_TPR_THRESHOLD) & 15) > ((register(TPR) >> 4) & 15);
}

/** @sdm 3C "TPR Virtualization" */
function virtualizeTpr(): void {
  if (deliversVirtual()) {
    virtualizePpr();
    evaluate();
  } else if (belowThreshold()) {
    trapExit(REASON_TPR_BELOW_THRESHOLD, 0);
  }
}

/** @sdm 3C "EOI Virtualization" */
function virtualizeEoi(): void {
  const vector = svi();
  setVector(ISR, vector, false);
  setStatus(rvi(), highest(ISR));
  virtualizePpr();
  const bitmap = vmcs64(V_EOI_EXIT_BITMAP_0 + ((vector >> 6) << 3));
  if ((bitmap >> <u64>(vector & 63)) & 1) trapExit(REASON_VIRTUALIZED_EOI, vector);
  else evaluate();
}

/** @sdm 3C "Self-IPI Virtualization" */
function virtualizeSelfIpi(vector: u32): void {
  setVector(IRR, vector, true);
  setStatus(max<u32>(rvi(), vector), svi());
  evaluate();
}

/** TPR threshold above VTPR[7:4] where VM entry refuses that. @sdm 3C "VM-Execution Control Fields" (checks) */
export function thresholdInvalid(): bool {
  return (
    primary(PRIMARY_USE_TPR_SHADOW) &&
    !secondary(SECONDARY_VIRTUALIZE_APIC_ACCESSES | SECONDARY_VIRTUAL_INTERRUPT_DELIVERY) &&
    belowThreshold()
  );
}

/** VM entry. @sdm 3C "VM Exits Induced by the TPR Threshold", "Updating Non-Register State" */
export function startVirtualApic(): void {
  stopVirtualApic();
  if (!primary(PRIMARY_USE_TPR_SHADOW)) return;
  if (deliversVirtual()) {
    virtualizePpr();
    evaluate();
  } else if (secondary(SECONDARY_VIRTUALIZE_APIC_ACCESSES) && belowThreshold()) {
    trapExit(REASON_TPR_BELOW_THRESHOLD, 0);
  }
}

/** VM exit: nothing is pending any more. */
export function stopVirtualApic(): void {
  store<u32>(TRAP_EXIT, 0);
  store<u32>(APIC_WRITE, 0);
  store<u32>(VIRTUAL_INTERRUPT, 0);
}

/** At an instruction boundary. True: the trap-like exit is recorded. Shutdown holds it back. */
export function trapLikeExit(): bool {
  const reason = load<u32>(TRAP_EXIT);
  if (!reason || load<u32>(ACTIVITY) >= <u32>Activity.Shutdown) return false;
  store<u32>(TRAP_EXIT, 0);
  recordExit(reason, load<u32>(TRAP_QUALIFICATION), 0);
  return true;
}

// --- the guest's accesses ---

/** CR8 as the guest reads it with TPR shadow. */
export function virtualCr8(): u64 {
  return (register(TPR) >> 4) & 15;
}

/** MOV to CR8 with TPR shadow; value: 0-15. */
export function setVirtualCr8(value: u64): void {
  setRegister(TPR, (<u32>value) << 4);
  virtualizeTpr();
}

function virtualMsr(index: u32): bool {
  return index >> 8 == 8 && secondary(SECONDARY_VIRTUALIZE_X2APIC_MODE);
}

function pageOffset(index: u32): u32 {
  return (index & 0xff) << 4;
}

/** RDMSR 800H-8FFH; true: the value is in COMM_VALUE. @sdm 3C "Virtualizing MSR-Based APIC Accesses" */
export function readVirtualMsr(index: u32): bool {
  if (!virtualMsr(index)) return false;
  if (!secondary(SECONDARY_APIC_REGISTER_VIRTUALIZATION) && pageOffset(index) != TPR) return false;
  store<u64>(COMM_VALUE, physRead64(vmcs64(V_VIRTUAL_APIC_ADDRESS) + pageOffset(index)));
  return true;
}

export const MSR_NOT_VIRTUAL: u32 = 0;
export const MSR_VIRTUAL: u32 = 1;
export const MSR_FAULT: u32 = 2;

/** WRMSR 808H; 80BH and 83FH with virtual-interrupt delivery. */
export function writeVirtualMsr(index: u32, value: u64): u32 {
  const offset = pageOffset(index);
  if (!virtualMsr(index)) return MSR_NOT_VIRTUAL;
  if (offset != TPR && !((offset == EOI || offset == SELF_IPI) && deliversVirtual())) return MSR_NOT_VIRTUAL;
  if (offset == EOI ? value : value >> 8) return MSR_FAULT;
  physWrite64(vmcs64(V_VIRTUAL_APIC_ADDRESS) + offset, value);
  if (offset == TPR) virtualizeTpr();
  else if (offset == EOI) virtualizeEoi();
  else if (value >> 4) virtualizeSelfIpi(<u32>value);
  else trapExit(REASON_APIC_WRITE, offset);
  return MSR_VIRTUAL;
}

/** After an instruction whose write to the APIC-access page was virtualized. @sdm 3C "APIC-Write Emulation" */
export function emulateApicWrite(): void {
  const offset = load<u32>(APIC_WRITE) & 0xfff;
  store<u32>(APIC_WRITE, 0);
  const virtual = deliversVirtual();
  if (offset == TPR) {
    setRegister(TPR, register(TPR) & 0xff);
    virtualizeTpr();
  } else if (offset == EOI && virtual) {
    setRegister(EOI, 0);
    virtualizeEoi();
  } else if ((offset & ~3) == ICR_HIGH) {
    setRegister(ICR_HIGH, register(ICR_HIGH) & 0xff000000);
  } else {
    const icr = register(ICR_LOW);
    if (offset == ICR_LOW && virtual && (icr & ICR_CHECKED) == ICR_SELF && icr & 0xf0) {
      virtualizeSelfIpi(icr & 0xff);
    } else {
      trapExit(REASON_APIC_WRITE, offset);
    }
  }
}

// --- interrupts ---

/**
 * At a boundary where nothing blocks interrupts: raises a recognized virtual interrupt, which is delivered through the
 * guest's IDT. @sdm 3C "Virtual-Interrupt Delivery"
 */
export function takeVirtualInterrupt(): bool {
  if (!load<u32>(VIRTUAL_INTERRUPT) || !(load<u32>(EFLAGS_REST) & FLAG_IF)) return false;
  store<u32>(VIRTUAL_INTERRUPT, 0);
  const vector = rvi();
  setVector(ISR, vector, true);
  setVector(IRR, vector, false);
  setRegister(PPR, vector & 0xf0);
  setStatus(highest(IRR), vector);
  store<u32>(ACTIVITY, Activity.Active);
  raiseSoft(EventType.External, vector, 0);
  store<u32>(EV_INJECTED, 1); // "external-interrupt exiting" is not asked
  return true;
}

// posted-interrupt descriptor: 255:0 requests (PIR)   256 outstanding notification (ON)
const PIR_BYTES: u32 = 32;

/** True: the acknowledged external interrupt was a notification, and is dismissed. @sdm 3C "Posted-Interrupt Processing" */
export function processPosted(vector: u32): bool {
  if (!pin(PIN_PROCESS_POSTED_INTERRUPTS) || vector != vmcs16(V_POSTED_INTERRUPT_NOTIFICATION_VECTOR)) return false;
  noteApic(APIC_EOI, 0, 0);
  const descriptor = vmcs64(V_POSTED_INTERRUPT_DESCRIPTOR_ADDRESS);
  physWrite32(descriptor + PIR_BYTES, physRead32(descriptor + PIR_BYTES) & ~1);
  let top: u32 = 0;
  for (let i: u32 = 0; i < 8; i++) {
    const posted = physRead32(descriptor + i * 4);
    if (!posted) continue;
    physWrite32(descriptor + i * 4, 0);
    setRegister(IRR + i * 16, register(IRR + i * 16) | posted);
    top = i * 32 + 31 - clz<u32>(posted);
  }
  setStatus(max<u32>(rvi(), top), svi());
  evaluate();
  return true;
}
