// A KVM guest that goes back: the reference is the guest itself on its way forth.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { vmxTarget } from "../../src/cli/gdbVmx.ts";
import type { KvmTarget, Point, Resume, Stop } from "../../src/gdb/index.ts";
import { parseFlat, parseImage } from "../../src/machine/index.ts";
import { guestNamed } from "../machine/fixtureGuests.ts";

const MEMORY = 16 << 20;
const bin = (file: string) => readFileSync(new URL(`../../fixtures/guests/${file}`, import.meta.url));
const never = new AbortController().signal;

interface Guest {
  readonly target: KvmTarget;
  console(): string;
}

function guestOf(name: string, record = true): Guest {
  let text = "";
  const { file, mode, load, entry } = guestNamed(name);
  const image = parseImage(bin(file), { mode, load: load ?? 0, entry: entry ?? 0 });
  const put = (byte: number): void => {
    text += String.fromCharCode(byte);
  };
  const target = vmxTarget({ image, memory: MEMORY, policy: undefined, vcpus: 1, console: put, record });
  return { target, console: () => text };
}

const go = (target: KvmTarget, how: Partial<Resume>): Promise<Stop> => target.resume({ run: [], ...how }, never);
const stepOf = (target: KvmTarget): Promise<Stop> => go(target, { step: 1 });
const stepBack = (target: KvmTarget): Promise<Stop> => go(target, { step: 1, reverse: true });
const state = (target: KvmTarget) => ({
  registers: target.readRegisters(1),
  count: target.commands.find(({ name }) => name === "count")!.run([], 1),
  stack: target.readPhysical(0x7000n, 0x1000),
  efer: target.readMsr(1, 0xc0000080),
});

describe("a KVM guest goes back", () => {
  it.each(["cpuid-fault-64", "cpuid-fault-32", "modes"])(
    "through every state of the first steps of %s",
    async (name) => {
      const { target } = guestOf(name);
      const states = [state(target)];
      for (let i = 0; i < 40; i++) {
        expect(await stepOf(target)).toEqual({ kind: "step", thread: 1 });
        // a step leads to the next iteration of a REP, the way back to its beginning
        if (state(target).count !== states.at(-1)!.count) states.push(state(target));
      }
      if (name === "cpuid-fault-64") {
        await stepBack(target);
        expect(state(target)).toEqual(states.at(-1));
      }
      expect(states.length).toBeGreaterThan(6);
      for (let i = states.length - 2; i >= 0; i--) {
        expect(await stepBack(target)).toEqual({ kind: "step", thread: 1 });
        expect(state(target), `step ${i}`).toEqual(states[i]);
      }
      expect(await stepBack(target)).toEqual({ kind: "beginning", thread: 1 });
    },
  );

  it("and ends again as it did, with its text once", async () => {
    const { target, console } = guestOf("cpuid-fault-64");
    const end = await go(target, { run: [1] });
    expect(end).toMatchObject({ kind: "end", status: 0 });
    const text = console();
    const last = state(target);
    for (let i = 0; i < 5; i++) await stepBack(target);
    expect(target.ended).toBeUndefined();
    expect(state(target)).not.toEqual(last);
    expect(await go(target, { run: [1] })).toEqual(end);
    expect(state(target)).toEqual(last);
    expect(console()).toBe(text);
  });

  it("to the last of many passes of a breakpoint, over an INT3 of its own", async () => {
    // mov ecx, 9; l: int3; dec ecx; jnz l; out 0xf4, al: the gate of INT3 leads to an IRETD
    const { target } = guestInt3();
    const point: Point = { kind: "software", address: 0x100100n, size: 1 };
    expect(target.insert(point)).toBe(true);
    const passes: ReturnType<typeof state>[] = [];
    for (;;) {
      const stop = await go(target, { run: [1] });
      if (stop.kind === "end") break;
      expect(stop).toEqual({ kind: "breakpoint", thread: 1, point: "software" });
      passes.push(state(target));
      target.remove(point);
      await stepOf(target);
      target.insert(point);
    }
    expect(passes.map(({ registers }) => registers.rcx)).toEqual([9n, 8n, 7n, 6n, 5n, 4n, 3n, 2n, 1n]);
    for (const pass of passes.reverse()) {
      expect(await go(target, { run: [1], reverse: true })).toEqual({
        kind: "breakpoint",
        thread: 1,
        point: "software",
      });
      expect(state(target)).toEqual(pass);
    }
    expect(await go(target, { run: [1], reverse: true })).toMatchObject({ kind: "beginning" });
    expect(target.readRegisters(1).rip).toBe(0x100000n);
    // the INT3 of the point is in memory again, but not in what is read
    target.remove(point);
    expect(target.readPhysical(0x100100n, 1)).toEqual(Uint8Array.of(0xcf));
  });

  it("with what the debugger wrote, before and after it", async () => {
    const { target } = guestInt3();
    await stepOf(target);
    target.writeRegisters(1, { rcx: 2n });
    expect(target.writeLinear(1, 0x3000n, Uint8Array.of(1, 2, 3))).toBe(true);
    expect(target.writeMsr(1, 0x174, 0x30n)).toBe(true);
    const end = await go(target, { run: [1] });
    expect(end.kind).toBe("end");
    await stepBack(target);
    expect(target.readPhysical(0x3000n, 3)).toEqual(Uint8Array.of(1, 2, 3));
    expect(target.readMsr(1, 0x174)).toBe(0x30n);
    expect(await go(target, { run: [1], reverse: true })).toMatchObject({ kind: "beginning" });
    expect(target.readRegisters(1).rcx).toBe(0n);
    expect(target.readPhysical(0x3000n, 3)).toEqual(Uint8Array.of(0, 0, 0));
    expect(target.readMsr(1, 0x174)).toBe(0n);
  });

  it("unless nothing is recorded", async () => {
    const { target } = guestOf("cpuid-fault-64", false);
    await stepOf(target);
    expect(await stepBack(target)).toMatchObject({
      kind: "beginning",
      message: expect.stringContaining("--no-record"),
    });
  });

  it("and stays where it is when that is interrupted", async () => {
    const { target } = guestOf("spin");
    const controller = new AbortController();
    const stopped = target.resume({ run: [1] }, controller.signal);
    setTimeout(() => controller.abort(), 50);
    expect((await stopped).kind).toBe("interrupt");
    const there = state(target);
    const aborted = AbortSignal.abort();
    expect(await target.resume({ step: 1, run: [], reverse: true }, aborted)).toEqual({ kind: "interrupt", thread: 1 });
    expect(state(target)).toEqual(there);
    expect((await stepBack(target)).kind).toBe("step");
    await stepOf(target);
    expect(state(target)).toEqual(there);
  });
});

function guestInt3(): Guest {
  const code = new Uint8Array(0x140);
  code.set([
    ...[0xbc, 0x00, 0x80, 0x00, 0x00], // 100000 mov esp, 8000h
    ...[0x0f, 0x01, 0x1d, 0x28, 0x01, 0x10, 0x00], // 100005 lidt [100128h]
    ...[0x0f, 0x01, 0x15, 0x20, 0x01, 0x10, 0x00], // 10000c lgdt [100120h]
    ...[0xb9, 0x09, 0x00, 0x00, 0x00], // 100013 mov ecx, 9
    0xcc, // 100018 int3
    ...[0x49], // 100019 dec ecx
    ...[0x75, 0xfc], // 10001a jnz 100018h
    ...[0xe6, 0xf4], // 10001c out 0f4h, al
  ]);
  code[0x100] = 0xcf; // 100100 iretd
  // GDT at 100130h: null, code 08h; its limit and base at 100120h. IDT at 100108h - 18h, so that its entry 3 is at 100108h
  code.set([0x0f, 0x00, 0x30, 0x01, 0x10, 0x00], 0x120);
  code.set([0xff, 0xff, 0, 0, 0, 0x9b, 0xcf, 0], 0x138);
  code.set([0x1f, 0x00, 0xf0, 0x00, 0x10, 0x00], 0x128);
  code.set([0x00, 0x01, 0x08, 0x00, 0x00, 0x8e, 0x10, 0x00], 0x108);
  const image = parseFlat(code, { mode: "protected", load: 0x100000 });
  const target = vmxTarget({ image, memory: MEMORY, policy: undefined, vcpus: 1, console: () => {}, record: true });
  return { target, console: () => "" };
}
