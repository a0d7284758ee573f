// Behaviour from the Motorola MC146818 and National Semiconductor PC16550D data sheets.
import { beforeEach, describe, expect, it } from "vitest";
import { Rtc, Serial } from "../../src/devices/index.ts";
import { TestClock } from "./time.ts";

const HZ = 32_768n;

describe("MC146818", () => {
  let clock: TestClock;
  let rtc: Rtc;
  let line: boolean;
  const get = (index: number) => {
    rtc.write(0x70, index);
    return rtc.read(0x71);
  };
  const set = (index: number, value: number) => {
    rtc.write(0x70, index);
    rtc.write(0x71, value);
  };
  /** The clock runs at the crystal's rate. */
  beforeEach(() => {
    clock = new TestClock(HZ);
    line = false;
    rtc = new Rtc({
      clock,
      epochMs: Date.UTC(2024, 1, 28, 23, 59, 58),
      irq: (level) => {
        line = level;
      },
    });
  });
  const time = () => [0x32, 9, 8, 7, 6, 4, 2, 0].map((index) => get(index).toString(16));

  it("counts in BCD, through the end of a day in a leap year", () => {
    expect(time()).toEqual(["20", "24", "2", "28", "4", "23", "59", "58"]);
    clock.ticks = 2n * HZ - 1n;
    expect(time()).toEqual(["20", "24", "2", "28", "4", "23", "59", "59"]);
    clock.ticks = 2n * HZ;
    expect(time()).toEqual(["20", "24", "2", "29", "5", "0", "0", "0"]);
  });

  it("has 12 hours with PM in bit 7, and binary", () => {
    set(11, 0x80);
    set(4, 0x92); // 12 PM
    set(11, 0x00);
    expect(get(4)).toBe(0x92);
    clock.ticks = HZ * 3600n;
    expect(get(4)).toBe(0x81);
    set(11, 0x86);
    set(4, 13);
    set(0, 59);
    set(11, 0x06);
    clock.ticks += HZ;
    expect([get(4), get(0)]).toEqual([14, 0]);
  });

  it("shows UIP 244 us before the update", () => {
    clock.ticks = HZ - 9n;
    expect(get(10) & 0x80).toBe(0);
    clock.ticks = HZ - 8n;
    expect(get(10) & 0x80).toBe(0x80);
    clock.ticks = HZ;
    expect(get(10) & 0x80).toBe(0);
  });

  it("SET holds the time", () => {
    set(11, 0x82);
    clock.ticks = 10n * HZ;
    expect(get(0)).toBe(0x58);
    set(11, 0x02);
    clock.ticks = 11n * HZ;
    expect(get(0)).toBe(0x59);
  });

  it.each([
    [1, 128n],
    [2, 256n],
    [3, 4n],
    [6, 32n],
    [15, 16384n],
  ])("periodic rate %i", (rate, ticks) => {
    set(10, 0x20 | rate);
    get(12);
    set(11, 0x42);
    expect(rtc.next()).toBe(ticks);
    clock.ticks = ticks;
    rtc.sync();
    expect(line).toBe(true);
    expect(get(12) & 0xc0).toBe(0xc0);
    expect([line, get(12) & 0xc0]).toEqual([false, 0]);
  });

  it("alarm: exact, and with bytes that match all", () => {
    set(1, 0x30);
    set(3, 0xff);
    set(5, 0xc0);
    set(11, 0x22);
    expect(rtc.next()).toBe(32n * HZ);
    set(5, 0x12);
    set(3, 0x00);
    expect(rtc.next()).toBe((2n + 12n * 3600n + 30n) * HZ);
    set(5, 0x77);
    expect(rtc.next()).toBeUndefined();
  });

  it("flags an alarm that nobody enabled, without an interrupt", () => {
    set(1, 0x59);
    set(3, 0x59);
    set(5, 0x23);
    clock.ticks = HZ;
    expect(get(12) & 0xb0).toBe(0x30);
    expect(line).toBe(false);
  });

  it("is the same after save and restore", () => {
    set(11, 0x12);
    clock.ticks = 100n;
    rtc.sync();
    const other = new Rtc({ clock });
    other.restore(structuredClone(rtc.save()));
    clock.ticks = 10n * HZ;
    expect(other.next()).toBe(rtc.next());
    other.sync();
    rtc.sync();
    expect(other.save()).toEqual(rtc.save());
  });
});

describe("16550A", () => {
  let sent: number[];
  let line: boolean;
  let serial: Serial;
  const get = (register: number) => serial.read(0x3f8 + register);
  const set = (register: number, value: number) => serial.write(0x3f8 + register, value);
  beforeEach(() => {
    sent = [];
    line = false;
    serial = new Serial((byte) => sent.push(byte), {
      irq: (level) => {
        line = level;
      },
    });
  });

  it("sends at once and says so", () => {
    set(0, 0x41);
    expect(sent).toEqual([0x41]);
    expect(get(5)).toBe(0x60);
  });

  it("hands over input in order, however much came", () => {
    serial.receive([1, 2, 3]);
    const got = [];
    while (get(5) & 1) got.push(get(0));
    expect(got).toEqual([1, 2, 3]);
  });

  it("interrupts for input, gated by OUT2", () => {
    set(1, 1);
    serial.receive([7]);
    expect(line).toBe(false);
    set(4, 8);
    expect(line).toBe(true);
    expect(get(2)).toBe(4);
    get(0);
    expect([line, get(2)]).toEqual([false, 1]);
  });

  it("below the trigger level it is a timeout", () => {
    set(2, 0x81); // 8 bytes
    set(1, 1);
    serial.receive([1, 2, 3]);
    expect(get(2)).toBe(0xcc);
    serial.receive([4, 5, 6, 7, 8]);
    expect(get(2)).toBe(0xc4);
  });

  it("modem lines in loopback: deltas, RI only when it ends", () => {
    set(4, 0x10);
    get(6);
    set(4, 0x1f);
    expect(get(6)).toBe(0xfb);
    expect(get(6)).toBe(0xf0);
    set(4, 0x1b);
    expect(get(6)).toBe(0xb4);
  });

  it("is the same after save and restore", () => {
    set(2, 0xc1);
    set(1, 1);
    set(4, 8);
    serial.receive([9, 8, 7]);
    const other = new Serial(() => {});
    other.restore(structuredClone(serial.save()));
    expect([0, 0, 0].map(() => other.read(0x3f8))).toEqual([9, 8, 7]);
  });
});
