// Sessions of a real gdb, recorded while it printed what test/gdb/scenarios.ts expects: the same requests get the same
// replies. real.test.ts records them.
import { existsSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { encodePacket, GdbSession, PacketReader } from "../../src/gdb/index.ts";
import { targetOf } from "./guest.ts";
import { SCENARIOS } from "./scenarios.ts";

export type Recorded = readonly [direction: "in" | "out", data: string];

const fileOf = (name: string) => new URL(`../../fixtures/gdb/${name}.json`, import.meta.url);
const latin1 = (bytes: Uint8Array): string => String.fromCharCode(...bytes);

describe.each(SCENARIOS)("recorded session with the guest $name", (scenario) => {
  it("is there", () => {
    expect(existsSync(fileOf(scenario.name))).toBe(true);
  });

  it("gets the same replies", async () => {
    const { packets } = JSON.parse(readFileSync(fileOf(scenario.name), "utf8")) as { packets: Recorded[] };
    const got: Recorded[] = [];
    const reader = new PacketReader(1 << 20);
    const session = new GdbSession(targetOf(scenario), (bytes) => {
      for (const event of reader.push(bytes)) if (event.kind === "packet") got.push(["out", latin1(event.data)]);
    });
    for (const [direction, data] of packets) {
      if (direction === "out") continue;
      got.push(["in", data]);
      await session.receive(encodePacket(data));
    }
    expect(got).toEqual(packets);
  });
});
