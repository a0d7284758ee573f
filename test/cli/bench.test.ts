import { readFileSync, writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { guestFile, wasmVmx } from "./command.ts";

const QUICK = ["--rounds", "1", "--time", "2", "--no-exits", "--no-startup"];

describe("bench", () => {
  it("times guests by name, saves, and compares with what was saved", async () => {
    const saved = guestFile([]);
    const first = await wasmVmx("bench", "chase", ...QUICK, "--mode", "interpreter", "--save", saved);
    expect(first).toMatchObject({ status: 0 });
    expect(first.stdout).toMatch(/chase +[\d.]+ \(0\)/);
    expect(JSON.parse(readFileSync(saved, "utf8")).cells).toHaveLength(1);
    const page = guestFile([]);
    const again = await wasmVmx(
      ...["bench", "chase", ...QUICK, "--mode", "interpreter", "--baseline", saved, "--html", page, "--json"],
    );
    expect(again.status).toBe(0);
    expect(JSON.parse(again.stdout).comparison).toMatchObject([{ name: "chase, interpreter", relative: 1 }]);
    expect(readFileSync(page, "utf8")).toContain("<svg");
  });

  it("refuses what it cannot use", async () => {
    const unknown = await wasmVmx("bench", "chaise");
    expect(unknown).toMatchObject({ status: 2 });
    expect(unknown.stderr).toContain("did you mean chase?");
    const file = guestFile([]);
    writeFileSync(file, "{}");
    const other = await wasmVmx("bench", "--baseline", file);
    expect(other).toMatchObject({ status: 2 });
    expect(other.stderr).toContain("--save");
    expect(await wasmVmx("bench", "--mode", "fast")).toMatchObject({ status: 2 });
  });

  it("lists its guests", async () => {
    const { status, stdout } = await wasmVmx("bench", "--list");
    expect(status).toBe(0);
    expect(stdout).toMatch(/^syscall +SYSCALL/m);
  });
});
