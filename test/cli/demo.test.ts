import { describe, expect, it } from "vitest";
import { expectedConsole, manifest, wasmVmx } from "./command.ts";

const words = (text: string): string => text.replace(/\s+/g, " ");

describe("wasm-vmx demo", () => {
  it("runs SHA-256 under VMX and compares the policies on two guests", async () => {
    const { status, stdout, stderr } = await wasmVmx("demo");
    expect(status).toBe(0);
    expect(stdout).toContain(expectedConsole(manifest.find((guest) => guest.name === "sha256-64")!));
    expect(stdout).toContain("$ wasm-vmx compare fixtures/guests/bin/app-start.bin --mode long");
    expect(words(stdout)).toContain("emulation is cheaper");
    expect(stdout).toContain("$ wasm-vmx compare fixtures/guests/bin/cpuid-heavy.bin --mode long");
    expect(words(stdout)).toContain("hardware faulting is cheaper");
    expect(stderr).toBe("");
  });

  it("gives the four static answers of the thread and one sentence, in 80 columns", async () => {
    const { stdout } = await wasmVmx("demo");
    const row = (host: number, guest: number) => stdout.match(new RegExp(`^ +${host} +${guest}  (.*)$`, "m"))?.[1];
    const cells = (host: number, guest: number) => row(host, guest)?.split(/ {2,}/);
    expect(cells(0, 0)).toEqual(["completes, 0 W", "completes, 0 W", "completes, 0 W"]);
    expect(cells(0, 1)).toEqual(["#GP by KVM, 0 W", "#GP by CPU, 2 W", "#GP by KVM, 0 W"]);
    expect(cells(1, 0)).toEqual(["WRONG #GP, 0 W", "completes, 2 W", "completes, 2 W"]);
    expect(cells(1, 1)?.every((cell) => cell.startsWith("#GP by CPU, 0"))).toBe(true);
    expect(words(stdout)).toMatch(/The question of 2019: .* above 0\.25-0\.3 faulting CPUIDs a load/);
    expect(stdout.split("\n").filter((line) => line.length > 80)).toEqual([]);
  });

  it("prints no escape sequence under NO_COLOR", async () => {
    const { stdout } = await wasmVmx("demo");
    expect(stdout.includes("\u001b")).toBe(false);
  });
});
