import { KVM_PIT_SPEAKER_DUMMY } from "./kernel-pit.ts";
import { KVM_X86_QUIRK_LAPIC_MMIO_HOLE } from "./quirks.ts";
import type { VcpuVmx } from "./vcpu.ts";

const APIC_PAGE = 0x1000n;
const IOAPIC_BYTES = 0x100n;
const APIC_ENABLE = 0x800n;
const X2APIC_ENABLE = 0x400n;
const PIT_CONTROL = 0x43;
const SPEAKER = 0x61;

interface ByteDevice {
  read(port: number): number;
  write(port: number, value: number): void;
}

/** The in-kernel device at a port. @kvm kvm_io_bus_read */
function deviceAt({ vm }: VcpuVmx, port: number): ByteDevice | undefined {
  const chip = vm.irqchip;
  if (chip === undefined) return undefined;
  const { pic } = chip;
  if (pic?.ports.some(([first, last]) => port >= first && port <= last)) {
    return { read: (at) => pic.read(at), write: (at, value) => chip.writePic(at, value) };
  }
  if (port >= 0x40 && port <= PIT_CONTROL) return chip.pit;
  return port === SPEAKER && chip.pitFlags & KVM_PIT_SPEAKER_DUMMY ? chip.pit : undefined;
}

/** One access to a device in the kernel, which takes bytes. False: the port is user space's. @kvm kernel_pio */
export function kernelPio(vcpu: VcpuVmx, port: number, input: boolean, size: number, data: Uint8Array): boolean {
  const device = deviceAt(vcpu, port);
  if (device === undefined) return false;
  const chip = vcpu.vm.irqchip!;
  chip.sync();
  for (let at = 0; at < data.length; at += size) {
    if (input) {
      data.fill(0, at, at + size);
      data[at] = device.read(port);
    } else device.write(port, data[at]!);
  }
  return true;
}

/** Nobody answers at the page of a local APIC that is off or in x2APIC mode: reads are all ones. */
const HOLE = "hole";

/** Offset in the local APIC's page, undefined elsewhere. @kvm apic_mmio_in_range, apic_mmio_read */
function inApic(vcpu: VcpuVmx, gpa: bigint): number | typeof HOLE | undefined {
  const { apicBase } = vcpu.arch;
  const at = gpa - (apicBase & ~0xfffn);
  if (vcpu.apic === undefined || at < 0n || at >= APIC_PAGE) return undefined;
  if (apicBase & APIC_ENABLE && !(apicBase & X2APIC_ENABLE)) return Number(at);
  return vcpu.vm.disabledQuirks & KVM_X86_QUIRK_LAPIC_MMIO_HOLE ? undefined : HOLE;
}

/** Offset in the I/O APIC's registers. @kvm ioapic_in_range */
function inIoapic(vcpu: VcpuVmx, gpa: bigint): number | undefined {
  const chip = vcpu.vm.irqchip;
  if (chip?.ioapic === undefined) return undefined;
  const at = gpa - chip.ioapicBase;
  return at >= 0n && at < IOAPIC_BYTES ? Number(at) : undefined;
}

/** What a device in the kernel answers; undefined: no such device. @kvm vcpu_mmio_read */
export function kernelMmioRead(vcpu: VcpuVmx, gpa: bigint, size: number): bigint | undefined {
  const apicAt = inApic(vcpu, gpa);
  const ioapicAt = apicAt === undefined ? inIoapic(vcpu, gpa) : undefined;
  if (apicAt === undefined && ioapicAt === undefined) return undefined;
  const mask = (1n << BigInt(8 * size)) - 1n;
  if (apicAt === HOLE) return mask;
  vcpu.vm.irqchip?.sync();
  const value = apicAt === undefined ? vcpu.vm.irqchip!.readIoapic(ioapicAt!) : vcpu.apic!.device.readPage(apicAt);
  return BigInt(value >>> 0) & mask;
}

/** False: no device in the kernel takes it. @kvm vcpu_mmio_write */
export function kernelMmioWrite(vcpu: VcpuVmx, gpa: bigint, size: number, value: bigint): boolean {
  const word = Number(value & 0xffff_ffffn);
  const apicAt = inApic(vcpu, gpa);
  const ioapicAt = apicAt === undefined ? inIoapic(vcpu, gpa) : undefined;
  if (apicAt === undefined && ioapicAt === undefined) return false;
  if (apicAt === HOLE) return true;
  vcpu.vm.irqchip?.sync();
  if (apicAt === undefined) vcpu.vm.irqchip!.writeIoapic(ioapicAt!, word);
  else if (size === 4) vcpu.apic!.device.writePage(apicAt, word);
  return true;
}
