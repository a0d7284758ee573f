import { describe, expect, it } from "vitest";
import { expectedConsole, manifest, wasmVmx } from "./command.ts";

describe("wasm-vmx demo", () => {
  it("runs SHA-256 under VMX and compares the policies on two guests", async () => {
    const { status, stdout, stderr } = await wasmVmx("demo");
    expect(status).toBe(0);
    expect(stdout).toContain(expectedConsole(manifest.find((guest) => guest.name === "sha256-64")!));
    expect(stdout).toContain("$ wasm-vmx compare fixtures/guests/bin/app-start.bin --mode long");
    expect(stdout).toContain("emulation is cheaper");
    expect(stdout).toContain("$ wasm-vmx compare fixtures/guests/bin/cpuid-heavy.bin --mode long");
    expect(stdout).toContain("hardware faulting is cheaper");
    expect(stderr).toContain("under VMX, policy upstream");
  });
});
