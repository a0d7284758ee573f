import { MessageChannel, Worker } from "node:worker_threads";
import { afterEach, describe, expect, it } from "vitest";
import { Machine, MemoryMapError, snapshotFromBytes } from "../../src/index.ts";
import { connectMachine, serveMachine } from "../../src/worker/index.ts";

/** l: inc ax; out 80h, al; jmp l */
const LOOP = Uint8Array.of(0x40, 0xe6, 0x80, 0xeb, 0xfb);
const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0)) await cleanup();
});

function channel() {
  const { port1, port2 } = new MessageChannel();
  cleanups.push(() => port1.close());
  return [port1, port2] as const;
}

async function inWorker() {
  const worker = new Worker(new URL("./program.mjs", import.meta.url));
  cleanups.push(() => worker.terminate());
  return connectMachine(worker, { memory: 1 << 20 });
}

describe("a machine in a worker", () => {
  it("has the methods of a machine", async () => {
    const machine = await inWorker();
    await machine.load(LOOP);
    expect(await machine.run({ maxInstructions: 300 })).toEqual({ reason: "instructions", instructions: 300 });
    expect((await machine.readRegisters()).rax).toBe(100n);
    expect(await machine.app("outs")).toBe(100);
    expect(await machine.get("instructionCount")).toBe(300n);
    await machine.writeRegisters({ rax: 5 });
    await machine.writeMemory(0x500, Uint8Array.of(1, 2));
    expect(await machine.readMemory(0x500, 2)).toEqual(Uint8Array.of(1, 2));
    const { id } = await machine.addBreakpoint(0x7c01);
    expect(await machine.run()).toMatchObject({ reason: "breakpoint", ids: [id], instructions: 1 });
    await machine.dispose();
  });

  it("gives errors with their class and data", async () => {
    const machine = await inWorker();
    const error = await machine.readMemory(0x8000_0000, 4).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(MemoryMapError);
    expect(error).toMatchObject({ name: "MemoryMapError", address: 0x8000_0000n, size: 4 });
    await expect(machine.run({ maxInstructions: -1 })).rejects.toThrow(RangeError);
    await expect(machine.app("fail")).rejects.toThrow("as asked");
    await expect(machine.app("constructor")).rejects.toThrow(/offers no function "constructor"/);
  });

  it("tells of its progress and stops when aborted", async () => {
    const machine = await inWorker();
    await machine.load(LOOP);
    const controller = new AbortController();
    const progress: number[] = [];
    const exit = await machine.runAsync({
      signal: controller.signal,
      sliceMs: 1,
      onProgress: ({ instructions }) => {
        progress.push(instructions);
        if (progress.length === 3) controller.abort();
      },
    });
    expect(exit.reason).toBe("aborted");
    expect(progress.length).toBeGreaterThanOrEqual(3);
    expect([...progress].sort((a, b) => a - b)).toEqual(progress);
    expect((await machine.step()).reason).toBe("instructions");
    expect(await machine.runAsync({ signal: AbortSignal.abort() })).toEqual({ reason: "aborted", instructions: 0 });
  });

  it("gives and takes snapshots as bytes", async () => {
    const machine = await inWorker();
    await machine.load(LOOP);
    await machine.run({ maxInstructions: 30 });
    const bytes = await machine.snapshot();
    const here = Machine.from(snapshotFromBytes(bytes));
    expect(here.registers.rax).toBe(10n);
    await machine.run({ maxInstructions: 30 });
    await machine.restore(bytes);
    expect((await machine.readRegisters()).rax).toBe(10n);
    expect(() => snapshotFromBytes(bytes.slice(0, 100))).toThrow(/damaged/);
    await expect(machine.restore(bytes.slice(0, 100))).rejects.toMatchObject({ name: "SnapshotError", why: "damaged" });
  });
});

describe("endpoints", () => {
  it("may be message ports", async () => {
    const [here, there] = channel();
    serveMachine(there);
    const machine = await connectMachine(here, { memory: 1 << 20 });
    await machine.load(Uint8Array.of(0xf4));
    expect(await machine.run()).toEqual({ reason: "halt", instructions: 1 });
    await machine.record();
    await expect(machine.rewind(1)).rejects.toThrow(/holds instruction counts 1 to 1/);
  });
});
