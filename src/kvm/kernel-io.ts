import { KVM_PIT_SPEAKER_DUMMY } from "./kernel-pit.ts";
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
  if (chip.pic?.ports.some(([first, last]) => port >= first && port <= last)) return chip.pic;
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

/** Offset in the local APIC's page, undefined elsewhere. @kvm apic_mmio_in_range */
function inApic(vcpu: VcpuVmx, gpa: bigint): number | undefined {
  const { apicBase } = vcpu.arch;
  if (vcpu.apic === undefined || !(apicBase & APIC_ENABLE) || apicBase & X2APIC_ENABLE) return undefined;
  const at = gpa - (apicBase & ~0xfffn);
  return at >= 0n && at < APIC_PAGE ? Number(at) : undefined;
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
  vcpu.vm.irqchip?.sync();
  const value = apicAt === undefined ? vcpu.vm.irqchip!.readIoapic(ioapicAt!) : vcpu.apic!.device.readPage(apicAt);
  return BigInt(value >>> 0) & ((1n << BigInt(8 * size)) - 1n);
}

/** False: no device in the kernel takes it. @kvm vcpu_mmio_write */
export function kernelMmioWrite(vcpu: VcpuVmx, gpa: bigint, size: number, value: bigint): boolean {
  const word = Number(value & 0xffff_ffffn);
  const apicAt = inApic(vcpu, gpa);
  const ioapicAt = apicAt === undefined ? inIoapic(vcpu, gpa) : undefined;
  if (apicAt === undefined && ioapicAt === undefined) return false;
  vcpu.vm.irqchip?.sync();
  if (apicAt === undefined) vcpu.vm.irqchip!.writeIoapic(ioapicAt!, word);
  else if (size === 4) vcpu.apic!.device.writePage(apicAt, word);
  return true;
}
