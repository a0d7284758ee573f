// ACPI tables of the pc profile: RSDP, RSDT, XSDT, FADT, FACS, DSDT, MADT. Source: ACPI specification 6.5, chapter 5.
import { IOAPIC_ADDRESS } from "../ioapic.ts";
import { APIC_ADDRESS } from "../lapic.ts";
import { FIRMWARE_AREA } from "./memoryRanges.ts";
import { PM_TIMER, PM1A_CONTROL, PM1A_EVENT, S5_TYPE } from "./power.ts";

const OEM = "WASMVM";
const OEM_TABLE = "WASMVMPC";
const SCI_IRQ = 9;
const HEADER = 36;

class Table {
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }

  text(at: number, value: string): this {
    this.bytes.set(new TextEncoder().encode(value), at);
    return this;
  }
  u8(at: number, ...values: number[]): this {
    this.bytes.set(values, at);
    return this;
  }
  u16(at: number, value: number): this {
    this.#view.setUint16(at, value, true);
    return this;
  }
  u32(at: number, value: number): this {
    this.#view.setUint32(at, value, true);
    return this;
  }
  u64(at: number, value: number): this {
    this.#view.setBigUint64(at, BigInt(value), true);
    return this;
  }

  /** The header of a description table. */
  header(signature: string, revision: number): this {
    this.text(0, signature).u32(4, this.bytes.length).u8(8, revision);
    return this.text(10, OEM).text(16, OEM_TABLE).u32(24, 1).text(28, "WVMX").u32(32, 1);
  }

  /** Makes the first `size` bytes sum to 0. */
  checksum(at: number, size = this.bytes.length): this {
    this.bytes[at] = 0;
    const sum = this.bytes.subarray(0, size).reduce((a, b) => a + b, 0);
    this.bytes[at] = -sum & 0xff;
    return this;
  }
}

/** Name(\_S5, Package(4) { S5_TYPE, S5_TYPE, 0, 0 }) */
function dsdt(): Table {
  const code = [0x08, 0x5f, 0x53, 0x35, 0x5f, 0x12, 0x08, 0x04, 0x0a, S5_TYPE, 0x0a, S5_TYPE, 0x00, 0x00];
  return new Table(HEADER + code.length)
    .u8(HEADER, ...code)
    .header("DSDT", 2)
    .checksum(9);
}

/** Generic address of I/O ports. */
function gas(table: Table, at: number, port: number, bits: number): void {
  table.u8(at, 1, bits, 0, bits === 32 ? 3 : bits === 16 ? 2 : 1).u64(at + 4, port);
}

function fadt(facs: number, dsdtAt: number): Table {
  const WBINVD = 1 << 0;
  const PROC_C1 = 1 << 2;
  const NO_POWER_BUTTON = 1 << 4;
  const NO_SLEEP_BUTTON = 1 << 5;
  const TIMER_32_BITS = 1 << 8;
  const RESET_REGISTER = 1 << 10;
  const table = new Table(268).header("FACP", 5);
  table.u32(36, facs).u32(40, dsdtAt).u16(46, SCI_IRQ);
  table.u32(56, PM1A_EVENT).u32(64, PM1A_CONTROL).u32(76, PM_TIMER);
  table.u8(88, 4, 2, 0, 4); // lengths of the PM1 event, PM1 control, PM2 and timer blocks
  table.u16(96, 101).u16(98, 1001); // no C2, no C3
  table.u8(108, 0x32); // century register of the CMOS
  table.u16(109, 0x0003); // legacy devices, an 8042
  table.u32(112, WBINVD | PROC_C1 | NO_POWER_BUTTON | NO_SLEEP_BUTTON | TIMER_32_BITS | RESET_REGISTER);
  gas(table, 116, 0xcf9, 8);
  table.u8(128, 0x06); // value that resets
  table.u64(132, facs).u64(140, dsdtAt);
  gas(table, 148, PM1A_EVENT, 32);
  gas(table, 172, PM1A_CONTROL, 16);
  gas(table, 208, PM_TIMER, 32);
  return table.checksum(9);
}

function madt(cpus: number): Table {
  const DUAL_8259 = 1;
  const entries: number[][] = [];
  const u32 = (value: number) => [value & 0xff, (value >> 8) & 0xff, (value >> 16) & 0xff, value >>> 24];
  for (let cpu = 0; cpu < cpus; cpu++) entries.push([0, 8, cpu, cpu, ...u32(1)]);
  entries.push([1, 12, 0, 0, ...u32(IOAPIC_ADDRESS), ...u32(0)]);
  // ISA line 0 is input 2, edge and high as on the bus; the SCI is level and high
  entries.push([2, 10, 0, 0, ...u32(2), 0, 0]);
  entries.push([2, 10, 0, SCI_IRQ, ...u32(SCI_IRQ), 0x0d, 0]);
  // LINT1 of every processor is NMI
  entries.push([4, 6, 0xff, 0, 0, 1]);
  const body = entries.flat();
  const table = new Table(44 + body.length).header("APIC", 3).u32(36, APIC_ADDRESS).u32(40, DUAL_8259);
  return table.u8(44, ...body).checksum(9);
}

/** The tables with their RSDP at the start of the firmware area. `apic`: the processors have local APICs. */
export function acpiTables(cpus: number, apic: boolean): { readonly address: number; readonly data: Uint8Array } {
  const RSDP_BYTES = 36;
  const area = new Uint8Array(4096);
  let next = 64;
  const place = (table: Table, align = 16): number => {
    next = Math.ceil(next / align) * align;
    area.set(table.bytes, next);
    const address = FIRMWARE_AREA + next;
    next += table.bytes.length;
    return address;
  };
  const facs = place(new Table(64).text(0, "FACS").u32(4, 64).u8(32, 2), 64);
  const tables = [place(fadt(facs, place(dsdt()))), ...(apic ? [place(madt(cpus))] : [])];
  const rsdt = new Table(HEADER + 4 * tables.length).header("RSDT", 1);
  const xsdt = new Table(HEADER + 8 * tables.length).header("XSDT", 1);
  tables.forEach((address, i) => {
    rsdt.u32(HEADER + 4 * i, address);
    xsdt.u64(HEADER + 8 * i, address);
  });
  const rsdtAt = place(rsdt.checksum(9));
  const xsdtAt = place(xsdt.checksum(9));
  const rsdp = new Table(RSDP_BYTES).text(0, "RSD PTR ").text(9, OEM).u8(15, 2).u32(16, rsdtAt);
  rsdp.u32(20, RSDP_BYTES).u64(24, xsdtAt).checksum(8, 20).checksum(32);
  area.set(rsdp.bytes, 0);
  return { address: FIRMWARE_AREA, data: area.subarray(0, next) };
}
