// Runs the built command as a user does.
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../", import.meta.url));
const BIN = join(root, "bin/wasm-vmx.mjs");

export interface Result {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function start(
  args: readonly string[],
  script: string = BIN,
  more: Readonly<Record<string, string>> = {},
): { child: ChildProcess; result: Promise<Result> } {
  const env = { ...process.env, NO_COLOR: "1", ...more };
  const child = spawn(process.execPath, [script, ...args], { cwd: root, env, stdio: ["ignore", "pipe", "pipe"] });
  const out: Buffer[] = [];
  const err: Buffer[] = [];
  child.stdout.on("data", (chunk) => out.push(chunk));
  child.stderr.on("data", (chunk) => err.push(chunk));
  const result = new Promise<Result>((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => {
      resolve({ status, stdout: Buffer.concat(out).toString(), stderr: Buffer.concat(err).toString() });
    });
  });
  return { child, result };
}

export const wasmVmx = (...args: string[]): Promise<Result> => start(args).result;

/** A file of these bytes, until the test process ends. */
const directory = mkdtempSync(join(tmpdir(), "wasm-vmx-test-"));
process.on("exit", () => rmSync(directory, { recursive: true, force: true }));
let files = 0;
export function guestFile(bytes: Uint8Array | readonly number[]): string {
  const path = join(directory, `guest${files++}.bin`);
  writeFileSync(path, Uint8Array.from(bytes));
  return path;
}

export interface GuestRecord {
  readonly name: string;
  readonly file: string;
  readonly format: "flat" | "elf";
  readonly mode: string;
  readonly load?: number;
  readonly entry?: number;
  readonly expected: string;
  readonly expectedStatus: number | null;
  readonly ends: "exit" | "never";
  readonly needs?: "vmx";
}

const guests = join(root, "fixtures/guests");
export const manifest = JSON.parse(readFileSync(join(guests, "manifest.json"), "utf8")) as GuestRecord[];
export const expectedConsole = (guest: GuestRecord): string => readFileSync(join(guests, guest.expected), "utf8");

/** Arguments that run a guest of the manifest. */
export function guestArgs(name: string): string[] {
  const guest = manifest.find((entry) => entry.name === name);
  if (guest === undefined) throw new Error(`no guest ${name} in the manifest`);
  const file = join(guests, guest.file);
  if (guest.format === "elf") return [file];
  const cpu = guest.needs ? ["--cpu", guest.needs] : [];
  return [file, ...cpu, "--mode", guest.mode, "--load", String(guest.load), "--entry", String(guest.entry)];
}
