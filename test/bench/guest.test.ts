// The contract of `npm run --silent bench:guest -- FILE LOAD ENTRY`.
import { spawnSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { guestFile, root } from "../cli/command.ts";

const LOAD = "0x10000";
const benchGuest = (file: string, load = LOAD, entry = LOAD) =>
  spawnSync("npm", ["run", "--silent", "bench:guest", "--", file, load, entry], { cwd: root, encoding: "utf8" });

const outE9 = (byte: number) => [0xb0, byte, 0xe6, 0xe9]; // mov al, byte; out 0E9h, al
const movEax = (...bytes: number[]) => [0xb8, ...bytes];
const OUT_F4_EAX = [0xe7, 0xf4];
const HLT = 0xf4;
const digits = [..."000012ab\n"].flatMap((digit) => outE9(digit.charCodeAt(0)));

describe("bench:guest", () => {
  it("prints one line of JSON with checksum, times and the exact count between the marks", () => {
    // between the marks: mov ecx, 1000; l: loop l; mov al, 2; out (not completed when it marks)
    const loop = [0xb9, 0xe8, 0x03, 0x00, 0x00, 0xe2, 0xfe];
    const end = [...movEax(0xab, 0x12, 0x00, 0x00), ...OUT_F4_EAX, HLT];
    const { status, stdout } = benchGuest(guestFile([...outE9(1), ...loop, ...outE9(2), ...digits, ...end]));
    expect(status).toBe(0);
    expect(stdout).toMatch(/^\{.*\}\n$/);
    const timing = JSON.parse(stdout);
    expect(timing.checksum).toBe("000012ab");
    expect(timing.instructions).toBe(1 + 1 + 1000 + 1);
    for (const name of ["seconds", "cpu", "start_s"]) expect(timing[name]).toBeGreaterThanOrEqual(0);
    expect(timing.start_s).toBeGreaterThan(timing.seconds);
  });

  it.each<[string, number[], string]>([
    ["halts without port 0xF4", [HLT], "the guest ended with halt"],
    ["ends without its marks", [...OUT_F4_EAX, HLT], "without its marks"],
    [
      "prints another checksum than it ends with",
      [...outE9(1), ...outE9(2), ...digits, ...movEax(1, 0, 0, 0), ...OUT_F4_EAX, HLT],
      'printed checksum "000012ab" but ended with 00000001',
    ],
  ])("fails when the guest %s: no JSON, a message, a status", (_name, bytes, message) => {
    const { status, stdout, stderr } = benchGuest(guestFile(bytes));
    expect(stdout).toBe("");
    expect(stderr).toContain(message);
    expect(status).not.toBe(0);
  });

  it("fails for a missing file and for a bad address", () => {
    expect(benchGuest("/nowhere.bin")).toMatchObject({ stdout: "", stderr: expect.stringContaining("/nowhere.bin") });
    const { status, stderr } = benchGuest(guestFile([HLT]), "here");
    expect(status).not.toBe(0);
    expect(stderr).toContain("LOAD must be an address");
  });
});
