// Behaviour from the Intel 8259A data sheet (231468).
import { beforeEach, describe, expect, it } from "vitest";
import { PicPair } from "../../src/devices/index.ts";

let pic: PicPair;
const [CMD1, DATA1, CMD2, DATA2] = [0x20, 0x21, 0xa0, 0xa1];

function init(icw4 = 0x01) {
  pic = new PicPair();
  for (const [command, data, base, cascade] of [
    [CMD1, DATA1, 0x30, 4],
    [CMD2, DATA2, 0x38, 2],
  ] as const) {
    pic.write(command, 0x11);
    pic.write(data, base);
    pic.write(data, cascade);
    pic.write(data, icw4);
  }
}
const pulse = (irq: number) => {
  pic.setIrq(irq, true);
  pic.setIrq(irq, false);
};
const isr = (command: number) => {
  pic.write(command, 0x0b);
  return pic.read(command);
};
const irr = (command: number) => {
  pic.write(command, 0x0a);
  return pic.read(command);
};

describe("8259A", () => {
  beforeEach(() => init());

  it("gives the vector of ICW2 and the line, and puts the line in service", () => {
    expect(pic.output).toBe(false);
    pic.setIrq(3, true);
    expect(pic.output).toBe(true);
    expect(irr(CMD1)).toBe(0x08);
    expect(pic.acknowledge()).toBe(0x33);
    expect(isr(CMD1)).toBe(0x08);
    expect(irr(CMD1)).toBe(0);
    expect(pic.output).toBe(false);
  });

  it("passes lines of the slave on through line 2, both in service", () => {
    pulse(12);
    expect(pic.acknowledge()).toBe(0x3c);
    expect([isr(CMD1), isr(CMD2)]).toEqual([0x04, 0x10]);
    pic.write(CMD2, 0x20);
    pic.write(CMD1, 0x20);
    expect([isr(CMD1), isr(CMD2)]).toEqual([0, 0]);
  });

  it("lets a higher line interrupt, and holds a lower one until EOI", () => {
    pulse(4);
    expect(pic.acknowledge()).toBe(0x34);
    pulse(5);
    expect(pic.output).toBe(false);
    pulse(1);
    expect(pic.acknowledge()).toBe(0x31);
    pic.write(CMD1, 0x20); // ends 1
    expect(pic.output).toBe(false);
    pic.write(CMD1, 0x20); // ends 4
    expect(pic.acknowledge()).toBe(0x35);
  });

  it("latches an edge while the line is masked, one for however many", () => {
    pic.write(DATA1, 0x10);
    pulse(4);
    pulse(4);
    expect(pic.output).toBe(false);
    pic.write(DATA1, 0);
    expect(pic.acknowledge()).toBe(0x34);
    pic.write(CMD1, 0x20);
    expect(pic.output).toBe(false);
  });

  it("answers line 7 when nothing requests, with nothing in service", () => {
    expect(pic.acknowledge()).toBe(0x37);
    expect(isr(CMD1)).toBe(0);
  });

  it("ends a named line with specific EOI", () => {
    pulse(6);
    pic.acknowledge();
    pulse(2 + 1);
    pic.acknowledge();
    pic.write(CMD1, 0x60 | 6);
    expect(isr(CMD1)).toBe(0x08);
  });

  it("sets the lowest priority, and rotates at EOI", () => {
    pic.write(CMD1, 0xc0 | 3); // line 4 is the highest
    pic.setIrq(0, true);
    pic.setIrq(4, true);
    expect(pic.acknowledge()).toBe(0x34);
    pic.write(CMD1, 0xa0); // rotate on non-specific EOI: line 4 is the lowest
    pic.setIrq(4, false);
    pic.setIrq(4, true);
    pic.setIrq(5, true);
    expect(pic.acknowledge()).toBe(0x35);
  });

  it("keeps nothing in service with automatic EOI", () => {
    init(0x03);
    pulse(4);
    expect(pic.acknowledge()).toBe(0x34);
    expect(isr(CMD1)).toBe(0);
    pulse(5);
    expect(pic.acknowledge()).toBe(0x35);
  });

  it("rotates at each acknowledge in automatic EOI mode with rotation", () => {
    init(0x03);
    pic.write(CMD1, 0x80);
    pulse(0);
    pulse(1);
    expect(pic.acknowledge()).toBe(0x30);
    pulse(0); // the lowest now
    expect([pic.acknowledge(), pic.acknowledge()]).toEqual([0x31, 0x30]);
    pic.write(CMD1, 0x00);
    pulse(0);
    pulse(1);
    expect([pic.acknowledge(), pic.acknowledge()]).toEqual([0x31, 0x30]); // line 0 stays the lowest
    pulse(1);
    pulse(2 + 1);
    expect([pic.acknowledge(), pic.acknowledge()]).toEqual([0x31, 0x33]);
  });

  it("lets lower lines through in special mask mode", () => {
    pulse(3);
    pic.acknowledge();
    pic.write(DATA1, 0x08);
    pulse(6);
    expect(pic.output).toBe(false);
    pic.write(CMD1, 0x68);
    expect(pic.acknowledge()).toBe(0x36);
  });

  it("acknowledges by poll", () => {
    pulse(5);
    pic.write(CMD1, 0x0c);
    expect(pic.read(CMD1)).toBe(0x85);
    expect(isr(CMD1)).toBe(0x20);
    pic.write(CMD1, 0x0c);
    expect(pic.read(CMD1)).toBe(0);
  });

  it("repeats a level-triggered line until it falls", () => {
    pic.write(0x4d1, 0xff);
    expect(pic.read(0x4d1)).toBe(0xde); // RTC and coprocessor cannot be level-triggered
    pic.setIrq(10, true);
    expect(pic.acknowledge()).toBe(0x3a);
    pic.write(CMD2, 0x20);
    pic.write(CMD1, 0x20);
    expect(pic.acknowledge()).toBe(0x3a);
    pic.setIrq(10, false);
    pic.write(CMD2, 0x20);
    pic.write(CMD1, 0x20);
    expect(pic.output).toBe(false);
  });

  it("needs a new edge after initialization", () => {
    pic.setIrq(4, true);
    pic.write(CMD1, 0x11);
    pic.write(DATA1, 0x30);
    pic.write(DATA1, 4);
    pic.write(DATA1, 1);
    expect(pic.output).toBe(false);
    pic.setIrq(4, false);
    pic.setIrq(4, true);
    expect(pic.output).toBe(true);
  });

  it("is the same after save and restore", () => {
    pulse(4);
    pic.acknowledge();
    pulse(9);
    pulse(1);
    const state = pic.save();
    init();
    pic.restore(structuredClone(state));
    expect(pic.acknowledge()).toBe(0x31);
    expect(isr(CMD1)).toBe(0x12);
    expect(() => pic.restore({ ...state, version: 2 as 1 })).toThrow(/version 2, this build reads version 1/);
  });
});
