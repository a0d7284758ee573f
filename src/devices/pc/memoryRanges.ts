// The memory map of the pc profile, as firmware tells it to a kernel (INT 15H E820 types).

export const RangeType = { Ram: 1, Reserved: 2, AcpiReclaimable: 3 } as const;

export interface MemoryRange {
  readonly address: number;
  readonly size: number;
  readonly type: number;
}

/** End of conventional memory: 639 KiB, then 1 KiB of extended BIOS data. */
export const LOW_MEMORY_END = 0x9fc00;
const VIDEO = 0xa0000;
/** ACPI tables lie here. */
export const FIRMWARE_AREA = 0xf0000;
export const HIGH_MEMORY = 0x100000;

/** What `ramSize` bytes of RAM from address 0 on look like. The hole below 1 MiB is RAM too, but not to be used. */
export function memoryRanges(ramSize: number): MemoryRange[] {
  const range = (address: number, end: number, type: number): MemoryRange[] =>
    end > address ? [{ address, size: end - address, type }] : [];
  return [
    ...range(0, Math.min(ramSize, LOW_MEMORY_END), RangeType.Ram),
    ...range(LOW_MEMORY_END, Math.min(ramSize, VIDEO), RangeType.Reserved),
    ...range(FIRMWARE_AREA, Math.min(ramSize, HIGH_MEMORY), RangeType.Reserved),
    ...range(HIGH_MEMORY, ramSize, RangeType.Ram),
  ];
}
