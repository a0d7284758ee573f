// Behaviour from the Intel 8254 data sheet (231164), "Mode definitions".
import { beforeEach, describe, expect, it } from "vitest";
import { PIT_HZ, Pit } from "../../src/devices/index.ts";
import { TestClock } from "./time.ts";

let clock: TestClock;
let pit: Pit;
let edges: bigint[];
const CONTROL = 0x43;

/** The clock runs at the PIT's own rate, so ticks are CLK pulses. */
beforeEach(() => {
  clock = new TestClock(PIT_HZ);
  edges = [];
  pit = new Pit({ clock, irq: (level) => level && edges.push(clock.ticks) });
});

function program(counter: number, mode: number, count: number) {
  pit.write(CONTROL, (counter << 6) | 0x30 | (mode << 1));
  pit.write(0x40 + counter, count & 0xff);
  pit.write(0x40 + counter, count >> 8);
}

/** Goes on tick by tick; OUT of the counter at each, oldest first. */
function wave(counter: number, ticks: number): string {
  let text = "";
  for (let i = 0; i < ticks; i++) {
    clock.ticks++;
    pit.sync();
    text += pit.output(counter) ? "1" : "0";
  }
  return text;
}

function count(counter: number): number {
  pit.write(CONTROL, counter << 6);
  return pit.read(0x40 + counter) | (pit.read(0x40 + counter) << 8);
}

describe("8254 outputs", () => {
  it("mode 0: low, high N + 1 pulses after the count was written", () => {
    program(0, 0, 4);
    expect(pit.output(0)).toBe(false);
    expect(wave(0, 8)).toBe("00001111");
    expect(edges).toEqual([5n]);
  });

  it("mode 2: high, low for one pulse of N", () => {
    program(0, 2, 3);
    expect(wave(0, 10)).toBe("1101101101");
    expect(edges).toEqual([4n, 7n, 10n]);
  });

  it("mode 3: high for half of an even count, one pulse longer than low for an odd one", () => {
    program(0, 3, 4);
    expect(wave(0, 12)).toBe("110011001100");
    program(2, 3, 5);
    pit.write(0x61, 1);
    expect(wave(2, 11)).toBe("11100111001");
  });

  it("mode 4: low for one pulse when the count is over", () => {
    program(0, 4, 3);
    expect(wave(0, 8)).toBe("11101111");
    expect(edges).toEqual([5n]);
  });

  it("mode 1: a one-shot of N pulses from the pulse after the trigger", () => {
    program(2, 1, 3);
    expect(wave(2, 3)).toBe("111");
    pit.write(0x61, 1);
    expect(wave(2, 6)).toBe("000111");
  });

  it("the gate holds mode 0 and restarts mode 2", () => {
    pit.write(0x61, 1);
    program(2, 0, 5);
    wave(2, 3);
    pit.write(0x61, 0);
    expect(wave(2, 4)).toBe("0000");
    pit.write(0x61, 1);
    expect(wave(2, 4)).toBe("0011");
    program(2, 2, 4);
    wave(2, 4);
    expect(pit.output(2)).toBe(false);
    pit.write(0x61, 0);
    expect(pit.output(2)).toBe(true);
    pit.write(0x61, 1);
    expect(wave(2, 5)).toBe("11101");
  });

  it("a count written in mode 2 holds from the end of the period", () => {
    program(0, 2, 4);
    wave(0, 2);
    pit.write(0x40, 2);
    pit.write(0x40, 0);
    expect(wave(0, 8)).toBe("10101010");
    expect(edges).toEqual([5n, 7n, 9n]);
  });

  it("raises one edge for periods that nobody looked at", () => {
    program(0, 2, 100);
    clock.ticks = 1000n;
    pit.sync();
    expect(edges).toEqual([1000n]);
    expect(pit.next()).toBe(1001n);
  });
});

describe("8254 counts", () => {
  it("count down, by two in mode 3", () => {
    program(0, 2, 1000);
    clock.ticks = 11n;
    expect(count(0)).toBe(990);
    clock.ticks = 0n;
    pit.reset();
    program(0, 3, 1000);
    clock.ticks = 11n;
    expect(count(0)).toBe(980);
    clock.ticks = 511n;
    expect(count(0)).toBe(980);
  });

  it("wraps in mode 0 after the terminal count", () => {
    program(0, 0, 10);
    clock.ticks = 12n;
    expect(count(0)).toBe(0xffff);
  });

  it("0 stands for 65536, and for 10000 in BCD", () => {
    program(0, 2, 0);
    expect(pit.next()).toBe(65537n);
    pit.write(CONTROL, 0x35);
    pit.write(0x40, 0);
    pit.write(0x40, 0);
    clock.ticks = 2n;
    expect(count(0)).toBe(0x9999);
  });

  it("stays latched until it is read, and a second latch does nothing", () => {
    program(0, 2, 1000);
    clock.ticks = 11n;
    pit.write(CONTROL, 0);
    clock.ticks = 21n;
    pit.write(CONTROL, 0);
    expect(pit.read(0x40) | (pit.read(0x40) << 8)).toBe(990);
    expect(pit.read(0x40) | (pit.read(0x40) << 8)).toBe(980);
  });

  it("read-back latches status before the count", () => {
    program(0, 2, 1000);
    pit.write(CONTROL, 0xc2);
    expect(pit.read(0x40)).toBe(0xf4); // OUT, null count, both bytes, mode 2
    pit.read(0x40);
    pit.read(0x40);
    clock.ticks = 1n;
    pit.write(CONTROL, 0xe2);
    expect(pit.read(0x40)).toBe(0xb4);
  });

  it("reads and writes one byte when the control word says so", () => {
    pit.write(CONTROL, 0x14);
    pit.write(0x40, 50);
    clock.ticks = 11n;
    expect(pit.read(0x40)).toBe(40);
    pit.write(CONTROL, 0x24);
    pit.write(0x40, 2);
    clock.ticks = 12n;
    expect(pit.read(0x40)).toBe(2);
  });
});

describe("port 0x61", () => {
  it("shows OUT 2 in bit 5 and a refresh toggle in bit 4", () => {
    pit.write(0x61, 1);
    program(2, 0, 20);
    expect(pit.read(0x61) & 0x2f).toBe(0x01);
    clock.ticks = 21n;
    expect(pit.read(0x61) & 0x2f).toBe(0x21);
    const before = pit.read(0x61) & 0x10;
    clock.ticks += 18n;
    expect(pit.read(0x61) & 0x10).not.toBe(before);
  });
});

it("is the same after save and restore", () => {
  program(0, 3, 1000);
  clock.ticks = 300n;
  const other = new Pit({ clock });
  other.restore(structuredClone(pit.save()));
  for (const tick of [301n, 499n, 501n, 999n, 1001n, 5000n]) {
    clock.ticks = tick;
    expect(other.output(0)).toBe(pit.output(0));
    expect(other.next()).toBe(pit.next());
  }
});
