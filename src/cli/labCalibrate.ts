import { spawnSync } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, release, tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { calibratedModel, type Measurement } from "../lab/index.ts";
import { UsageError } from "./args.ts";
import { ExitStatus } from "./command.ts";
import { checkWritable } from "./labHtml.ts";
import { packageRoot } from "./packageRoot.ts";

const SECONDS = 60;

function checkKvm(): void {
  if (process.platform !== "linux") throw new UsageError("lab calibrate needs Linux with /dev/kvm");
  try {
    accessSync("/dev/kvm", constants.R_OK | constants.W_OK);
  } catch (error) {
    const missing = (error as NodeJS.ErrnoException).code === "ENOENT";
    throw new UsageError(
      missing
        ? "lab calibrate needs /dev/kvm, and there is none: load kvm_intel or kvm_amd, or allow nested virtualisation"
        : "lab calibrate may not open /dev/kvm: run it as a member of the group that owns it",
    );
  }
}

/** Compiles and runs the C VMM. */
function measure(): Measurement {
  const source = fileURLToPath(new URL("fixtures/lab/src/calibrate.c", packageRoot()));
  const directory = mkdtempSync(join(tmpdir(), "wasm-vmx-calibrate-"));
  try {
    const program = join(directory, "calibrate");
    const gcc = spawnSync("gcc", ["-O2", "-o", program, source], { encoding: "utf8" });
    if (gcc.error) throw new UsageError("lab calibrate needs gcc: it compiles a small VMM in C");
    if (gcc.status !== 0) throw new UsageError(`gcc cannot compile ${source}:\n${gcc.stderr}`);
    const run = spawnSync(program, [], { encoding: "utf8", timeout: SECONDS * 1000 });
    if (run.error || run.status !== 0) {
      throw new UsageError(`the VMM failed: ${run.stderr.trim() || (run.error?.message ?? `signal ${run.signal}`)}`);
    }
    return JSON.parse(run.stdout) as Measurement;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** `lab calibrate [FILE]`: a cost model measured on this machine, as JSON. */
export function runCalibrate([file, ...extra]: readonly string[]): number {
  if (extra.length > 0) throw new UsageError("lab calibrate takes one file to write to");
  if (file !== undefined) checkWritable(file);
  checkKvm();
  const where = `${cpus()[0]?.model.trim() ?? "unknown CPU"}, Linux ${release()}, ${new Date().toISOString().slice(0, 10)}`;
  const text = `${JSON.stringify(calibratedModel(measure(), where), null, 2)}\n`;
  if (file === undefined) process.stdout.write(text);
  else {
    writeFileSync(file, text);
    process.stderr.write(`wasm-vmx: wrote ${file}; use it with --cost ${file}\n`);
  }
  return ExitStatus.Ok;
}
