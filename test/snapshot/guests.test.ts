// A restored run has the same future, instruction for instruction.
import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { type Machine, snapshotFromBytes, snapshotToBytes } from "../../src/index.ts";
import { generator } from "../jit/lockstep.ts";
import { emptyMachine, GUESTS, loadGuest } from "../machine/fixtureGuests.ts";

const LIMIT = 60_000;

/** A REP that never ends is cut where its bound of work says, so that the cuts must be the same. */
const guests = GUESTS.filter(({ name }) => name !== "rep-forever");

function memoryHash(machine: Machine): string {
  return createHash("sha1").update(machine.readMemory(0, machine.ramSize)).digest("hex");
}

function endOf(machine: Machine, console: readonly number[]) {
  const exit = machine.run({ maxInstructions: LIMIT - Number(machine.instructionCount) });
  return {
    exit: exit.reason,
    count: machine.instructionCount,
    registers: machine.registers.read(),
    tsc: machine.tsc,
    memory: memoryHash(machine),
    console: String.fromCharCode(...console),
  };
}

describe.each([0, 1])("a snapshot in the middle, jit %i", (jit) => {
  it.each(guests.map((guest) => [guest.name, guest] as const))("%s", (name, guest) => {
    const straight = loadGuest(guest, jit);
    const end = endOf(straight.machine, straight.console);

    const random = generator(name.length * 31 + jit);
    const first = loadGuest(guest, jit);
    first.machine.run({ maxInstructions: random(Math.min(LIMIT, Number(end.count))) });
    const early = first.console.length;
    const snapshot = first.machine.snapshot();
    const at = first.machine.registers.read();
    expect(endOf(first.machine, first.console)).toEqual(end);

    // the same machine again
    first.machine.restore(snapshot);
    first.console.length = early;
    expect(first.machine.registers.read()).toEqual(at);
    expect(endOf(first.machine, first.console)).toEqual(end);

    // a fresh one, through bytes
    const fresh = emptyMachine(jit);
    fresh.machine.restore(snapshotFromBytes(snapshotToBytes(snapshot)));
    fresh.console.push(...first.console.slice(0, early));
    expect(endOf(fresh.machine, fresh.console)).toEqual(end);

    // and one that has run something else before
    const used = loadGuest(guests[(guests.indexOf(guest) + 1) % guests.length]!, jit);
    used.machine.run({ maxInstructions: 20_000 });
    used.machine.restore(snapshot);
    used.console.splice(0, used.console.length, ...first.console.slice(0, early));
    expect(endOf(used.machine, used.console)).toEqual(end);
  });
});
