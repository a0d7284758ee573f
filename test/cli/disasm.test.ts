import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { guestFile, root, wasmVmx } from "./command.ts";

const guest = (name: string) => join(root, "fixtures/guests/bin", name);

interface Line {
  readonly address: string;
  readonly bytes: string;
  readonly text: string;
}

const lines = (text: string): Line[] =>
  text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));

describe("wasm-vmx disasm", () => {
  // nasm's own words for these bytes
  it.each([
    ["16", [0xb8, 0x34, 0x12, 0xcd, 0x10], ["mov ax, 0x1234", "int 0x10"]],
    ["32", [0xb8, 0x78, 0x56, 0x34, 0x12, 0x0f, 0xa2], ["mov eax, 0x12345678", "cpuid"]],
    ["64", [0x48, 0x31, 0xc0, 0x0f, 0x01, 0xc1], ["xor rax, rax", "vmcall"]],
  ])("lists raw %s-bit code", async (bits, bytes, expected) => {
    const { status, stdout } = await wasmVmx("disasm", guestFile(bytes), "--bits", bits, "--base", "0x1000", "--json");
    expect(status).toBe(0);
    const found = lines(stdout);
    expect(found.map(({ text }) => text)).toEqual(expected);
    expect(found[0]?.address).toBe("0x1000");
    expect(found.map((line) => line.bytes).join(" ")).toBe(bytes.map((b) => b.toString(16).padStart(2, "0")).join(" "));
  });

  it("lists the code of an ELF file as objdump's recording has it", async () => {
    for (const [file, bits] of [
      ["sha256-32.elf", 32],
      ["sha256-64.elf", 64],
    ] as const) {
      const { stdout } = await wasmVmx("disasm", guest(file), "--json");
      const recorded = readFileSync(new URL(`../disasm/objdump-${bits}.txt`, import.meta.url), "utf8");
      const expected = recorded.trim().split("\n");
      expect(lines(stdout).map(({ address, bytes }) => `${address.slice(2)} ${bytes}`)).toEqual(expected);
    }
  });

  it("keeps to a range and a count", async () => {
    const nops = guestFile(new Uint8Array(64).fill(0x90));
    const { stdout } = await wasmVmx("disasm", nops, "--start", "0x7c10", "--stop", "0x7c14");
    expect(stdout.trim().split("\n")).toHaveLength(4);
    expect(stdout).toContain("7c10  90 ");
    expect((await wasmVmx("disasm", nops, "--count", "3")).stdout.trim().split("\n")).toHaveLength(3);
  });

  it("lists what is no instruction byte by byte", async () => {
    const { stdout } = await wasmVmx("disasm", guestFile([0x0f, 0xff, 0x90]), "--bits", "64");
    expect(stdout).toMatch(/7c00|100000/);
    expect((await wasmVmx("disasm", guestFile([0x06, 0x90]), "--bits", "64")).stdout).toMatch(/06 +\(bad\)\n.* nop\n/);
  });

  it("ends quietly when its reader goes away", async () => {
    const nops = guestFile(new Uint8Array(8 << 20).fill(0x90));
    const script = `node bin/wasm-vmx.mjs disasm "$1" | head -n 2; echo "status \${PIPESTATUS[0]}"`;
    const child = spawn("bash", ["-c", script, "bash", nops], { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    let [out, err] = ["", ""];
    child.stdout.on("data", (chunk) => {
      out += chunk;
    });
    child.stderr.on("data", (chunk) => {
      err += chunk;
    });
    await new Promise((resolve) => child.on("close", resolve));
    expect(out.trim().split("\n")).toHaveLength(3);
    expect(out).toContain("status 0");
    expect(err).toBe("");
  });

  const elf = guest("sha256-64.elf");
  it.each<[string, () => string[], string]>([
    ["no file", () => [], "no file given"],
    ["two files", () => [elf, "b"], "one file at a time"],
    ["a missing file", () => ["/nowhere/a.bin"], "cannot read file /nowhere/a.bin: there is no such file"],
    ["a width", () => [elf, "--bits", "8"], '--bits is 16, 32 or 64, not "8"'],
    ["--base with ELF", () => [elf, "--base", "0"], "--base is for raw files"],
    ["a section", () => [elf, "--section", ".txt"], "did you mean .text?"],
    ["--section with a raw file", () => [guestFile([0x90]), "--section", ".text"], "this file is raw"],
    ["an address", () => [elf, "--start", "main"], "--start needs an address"],
    ["a cut-off ELF file", () => [guestFile(readFileSync(elf).subarray(0, 3000))], "truncated ELF file"],
    ["an unknown option", () => [elf, "--bit", "16"], "did you mean --bits?"],
  ])("refuses %s", async (_name, args, message) => {
    const { status, stdout, stderr } = await wasmVmx("disasm", ...args());
    expect(stderr).toContain(message);
    expect({ status, stdout }).toEqual({ status: 2, stdout: "" });
    expect(stderr).not.toContain("    at ");
  });
});
