import { parentPort, workerData } from "node:worker_threads";
import type { Scenario } from "../lab/index.ts";
import { type GuestSource, ScenarioRunner } from "../lab/index.ts";
import { ALL_POLICIES } from "../policy/index.ts";
import { loadPolicyFile } from "./policyFile.ts";

/** What a worker is started with. */
export interface WorkerStart {
  readonly source: GuestSource;
  readonly policyFile: string | undefined;
}

const port = parentPort;
if (port !== null) {
  const { source, policyFile } = workerData as WorkerStart;
  const own = policyFile === undefined ? [] : await loadPolicyFile(policyFile);
  const runner = new ScenarioRunner(source, { policies: [...ALL_POLICIES, ...own] });
  port.on("message", ({ index, scenario }: { index: number; scenario: Scenario }) => {
    try {
      port.postMessage({ index, result: runner.run(scenario) });
    } catch (error) {
      port.postMessage({ index, error: (error as Error).stack ?? String(error) });
    }
  });
  port.postMessage({ ready: true });
}
