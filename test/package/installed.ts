// The package as npm packs it, installed into a fresh project.
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../", import.meta.url));

export interface PackedFile {
  readonly path: string;
  readonly size: number;
}

export interface Packed {
  /** The tarball. */
  readonly file: string;
  readonly size: number;
  readonly files: readonly PackedFile[];
  /** A project that depends on it. */
  readonly project: string;
}

export interface Output {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function run(command: string, args: readonly string[], cwd: string): Output {
  const { status, stdout, stderr } = spawnSync(command, args, {
    cwd,
    encoding: "utf8",
    env: { ...process.env, NO_COLOR: "1" },
  });
  return { status, stdout, stderr };
}

function must(output: Output, what: string): string {
  if (output.status !== 0)
    throw new Error(`${what} failed with status ${output.status}:\n${output.stdout}${output.stderr}`);
  return output.stdout;
}

const directory = mkdtempSync(join(tmpdir(), "wasm-vmx-package-"));
process.on("exit", () => rmSync(directory, { recursive: true, force: true }));

/** Packs what is built and installs it; what it needs is in the tarball, so no registry is asked. */
export function install(): Packed {
  const packed = run("npm", ["pack", "--json", "--ignore-scripts", "--pack-destination", directory], root);
  const [{ filename, size, files }] = JSON.parse(must(packed, "npm pack")) as [Packed & { filename: string }];
  const project = join(directory, "project");
  mkdirSync(project);
  writeFileSync(join(project, "package.json"), JSON.stringify({ name: "consumer", private: true, type: "module" }));
  const file = join(directory, filename);
  must(run("npm", ["install", "--offline", "--no-audit", "--no-fund", file], project), "npm install");
  return { file, size, files, project };
}

/** A file of the consumer. */
export function write(project: string, name: string, text: string): string {
  const path = join(project, name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  return path;
}

export const read = (project: string, name: string): string => readFileSync(join(project, name), "utf8");

/** mov ax, 1234h; hlt: what every consumer runs. */
export const USE = `
  const machine = new Machine({ memory: 65536 });
  loadImage(machine, parseFlat(Uint8Array.of(0xb8, 0x34, 0x12, 0xf4)));
  const { reason } = machine.run({ maxInstructions: 10 });
  const said = reason + " " + machine.registers.rax;`;
export const SAID = "halt 4660";
