import { availableParallelism } from "node:os";
import { Worker } from "node:worker_threads";
import {
  type GuestSource,
  type RunScenarioOptions,
  type Scenario,
  type ScenarioResult,
  ScenarioRunner,
  type SweepResults,
} from "../lab/index.ts";
import { yieldToHost } from "../machine/index.ts";
import type { Policy } from "../policy/index.ts";
import type { WorkerStart } from "./labWorker.ts";
import { packageRoot } from "./packageRoot.ts";

export interface SweepJob {
  readonly guest: string;
  readonly source: GuestSource;
  readonly scenarios: readonly Scenario[];
  /** Places in `scenarios` to run. */
  readonly places: readonly number[];
  readonly policies: readonly Policy[];
  readonly policyFile: string | undefined;
  /** 0: as many as there are processors and work. */
  readonly workers: number;
  readonly signal: AbortSignal;
  readonly progress: (done: number) => void;
  /** Only in this thread. */
  readonly trace?: RunScenarioOptions["trace"];
}

type Cells = Map<number, ScenarioResult>;
/** Below this many runs a worker's start costs more than it gains. */
const RUNS_A_WORKER = 16;

async function runHere(job: SweepJob, cells: Cells): Promise<void> {
  const runner = new ScenarioRunner(job.source, {
    policies: job.policies,
    ...(job.trace === undefined ? {} : { trace: job.trace }),
  });
  for (const index of job.places) {
    if (job.signal.aborted) return;
    cells.set(index, runner.run(job.scenarios[index]!));
    job.progress(cells.size);
    await yieldToHost();
  }
}

interface FromWorker {
  readonly index: number;
  readonly result?: ScenarioResult;
  readonly error?: string;
}

function runInWorkers(job: SweepJob, cells: Cells, count: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const left = [...job.places];
    const workers = new Set<Worker>();
    const end = (error?: Error): void => {
      for (const worker of workers) void worker.terminate();
      job.signal.removeEventListener("abort", onAbort);
      if (error) reject(error);
      else resolve();
    };
    const onAbort = (): void => end();
    job.signal.addEventListener("abort", onAbort);
    const workerData: WorkerStart = { source: job.source, policyFile: job.policyFile };
    for (let i = 0; i < count; i++) {
      const worker = new Worker(new URL("dist/src/cli/labWorker.js", packageRoot()), { workerData });
      workers.add(worker);
      worker.on("error", (error) => end(error as Error));
      worker.on("message", ({ index, result, error }: FromWorker) => {
        if (error !== undefined) return end(new Error(`run ${index} failed: ${error}`));
        if (result !== undefined) {
          cells.set(index, result);
          job.progress(cells.size);
          if (cells.size === job.places.length) return end();
        }
        const next = left.shift();
        if (next !== undefined) worker.postMessage({ index: next, scenario: job.scenarios[next] });
      });
    }
  });
}

/** Runs the places of a sweep; the results are in the sweep's order, whoever ran them. */
export async function runSweep(job: SweepJob): Promise<SweepResults> {
  const cells: Cells = new Map();
  const useful = Math.max(1, Math.floor(job.places.length / RUNS_A_WORKER));
  const count = job.workers > 0 ? Math.min(job.workers, job.places.length) : Math.min(availableParallelism(), useful);
  await (count <= 1 || job.trace !== undefined ? runHere(job, cells) : runInWorkers(job, cells, count));
  return {
    format: "wasm-vmx lab 1",
    guest: job.guest,
    total: job.scenarios.length,
    cells: [...cells].sort((a, b) => a[0] - b[0]).map(([index, result]) => ({ index, result })),
  };
}
