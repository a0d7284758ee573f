// What a PC's firmware leaves in CMOS memory. Source: IBM PC AT Technical Reference; QEMU's additions above 0x30.
import type { Rtc } from "../rtc.ts";

const KIB = 1024;
const MIB = 1 << 20;

export function fillCmos(rtc: Rtc, ramSize: number, cpus: number): void {
  const word = (index: number, value: number) => {
    rtc.setCmos(index, value & 0xff);
    rtc.setCmos(index + 1, (value >> 8) & 0xff);
  };
  const base = Math.min(ramSize / KIB, 640);
  const extended = Math.min(Math.max(ramSize - MIB, 0) / KIB, 0xffff);
  rtc.setCmos(0x14, 0x06); // equipment: 80287, pointing device
  word(0x15, base);
  word(0x17, extended);
  word(0x30, extended);
  word(0x34, Math.min(Math.max(ramSize - 16 * MIB, 0) / (64 * KIB), 0xffff));
  rtc.setCmos(0x5f, cpus - 1);
}
