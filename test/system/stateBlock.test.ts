// The state block is written down as addresses: no two fields may share a byte.

import { readFileSync } from "node:fs";
import { expect, it } from "vitest";

interface Entry {
  readonly name: string;
  readonly at: number;
  readonly size: number;
}

/** Names for a part of another field. */
const ALIASES = ["RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "STATE_END"];
const SIZES: Readonly<Record<string, number>> = { GPR: 128, DR0: 32, SEGS: 8 * 48, PDPTE: 32, X87: 8 * 19 };

function entries(): Entry[] {
  const text = readFileSync(new URL("../../assembly/abi/state.ts", import.meta.url), "utf8");
  return [...text.matchAll(/^export const (\w+) = (0x1[0-9a-f]{3});(.*)$/gm)]
    .filter(([, name]) => !ALIASES.includes(name!))
    .map(([, name, at, comment]) => ({
      name: name!,
      at: Number(at),
      size: SIZES[name!] ?? (/\/\/ u32/.test(comment!) ? 4 : 8),
    }));
}

it("fields do not overlap", () => {
  const list = entries().sort((a, b) => a.at - b.at);
  expect(list.length).toBeGreaterThan(100);
  const overlaps = list.flatMap((entry, i) => {
    const next = list[i + 1];
    return next && entry.at + entry.size > next.at ? [`${entry.name} and ${next.name}`] : [];
  });
  expect(overlaps).toEqual([]);
});
