// Builds the harness and runs batches of cases through it.
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { type Case, writeCase } from "./cases.ts";
import {
  BASE,
  CASE,
  CODE,
  CODE_AT,
  CODE_SIZE,
  CODE16_LIMIT_PAGES,
  DATA,
  DATA_SIZE,
  IMAGE_SIZE,
  MAX_CODE,
  READ_ONLY,
  RESULT,
  STUB,
  STUB_OF,
  STUCK,
} from "./layout.ts";
import { type Result, readResult } from "./result.ts";
import { initialImage } from "./state.ts";

const source = fileURLToPath(new URL("native.c", import.meta.url));
const folder = fileURLToPath(new URL("../../build/oracle/", import.meta.url));

function macros(): string[] {
  const named = (prefix: string, of: Readonly<Record<string, number>>): [string, number][] =>
    Object.entries(of).map(([k, v]) => [`${prefix}_${k.toUpperCase()}`, v]);
  const plain = {
    BASE,
    CODE,
    CODE16_LIMIT_PAGES,
    CODE_AT,
    CODE_SIZE,
    DATA,
    DATA_SIZE,
    IMAGE_SIZE,
    MAX_CODE,
    READ_ONLY,
    STUB,
    STUCK,
  };
  return [...Object.entries(plain), ...named("CASE", CASE), ...named("RESULT", RESULT), ...named("STUB", STUB_OF)].map(
    ([name, value]) => `-D${name}=${value}`,
  );
}

/** Compiles native.c with gcc; throws where that is impossible. */
export function buildHarness(): string {
  if (process.platform !== "linux" || process.arch !== "x64") throw new Error("the harness needs Linux on x86-64");
  mkdirSync(folder, { recursive: true });
  const out = `${folder}native`;
  const flags = ["-O2", "-Wall", "-Wno-unused-value", "-fno-stack-protector", "-mgeneral-regs-only"];
  const gcc = spawnSync("gcc", [...flags, ...macros(), "-o", out, source], { encoding: "utf8" });
  if (gcc.error) throw gcc.error;
  if (gcc.status !== 0) throw new Error(`gcc failed:\n${gcc.stderr}`);
  return out;
}

/** A running harness. */
export class Harness {
  readonly #child: ChildProcess;
  #pending: Buffer = Buffer.alloc(0);
  #wake: (() => void) | undefined;
  #ended: string | undefined;

  constructor(path = buildHarness()) {
    this.#child = spawn(path, { stdio: ["pipe", "pipe", "inherit"] });
    this.#child.stdout!.on("data", (chunk: Buffer) => {
      this.#pending = this.#pending.length ? Buffer.concat([this.#pending, chunk]) : chunk;
      this.#wake?.();
    });
    this.#child.on("exit", (code, signal) => {
      this.#ended = `the harness ended with ${signal ?? `status ${code}`}`;
      this.#wake?.();
    });
    this.#child.stdin!.on("error", () => {});
    this.#child.stdin!.write(initialImage());
  }

  async run(cases: readonly Case[]): Promise<Result[]> {
    const batch = Buffer.alloc(4 + cases.length * CASE.size);
    batch.writeUInt32LE(cases.length, 0);
    const view = new DataView(batch.buffer, batch.byteOffset + 4, cases.length * CASE.size);
    cases.forEach((c, i) => {
      writeCase(view, i * CASE.size, c);
    });
    this.#child.stdin!.write(batch);
    const results: Result[] = [];
    while (results.length < cases.length) {
      const bytes = this.#pending;
      const results_ = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      let at = 0;
      while (results.length < cases.length && bytes.length - at >= RESULT.head) {
        const size = RESULT.head + results_.getUint32(at + RESULT.words, true) * RESULT.word;
        if (bytes.length - at < size) break;
        results.push(readResult(results_, at).result);
        at += size;
      }
      this.#pending = bytes.subarray(at);
      if (results.length === cases.length) break;
      if (this.#ended) throw new Error(`${this.#ended} after ${results.length} of ${cases.length} cases`);
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      this.#wake = undefined;
    }
    return results;
  }

  close(): void {
    this.#child.stdin!.end();
  }
}
