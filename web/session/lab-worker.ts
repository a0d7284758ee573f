// The worker that runs a guest under every policy. It is thrown away when the answer is no longer wanted.
import { costModel } from "../../src/cost/index.ts";
import { compare } from "../../src/lab/index.ts";
import { parseImage } from "../../src/machine/index.ts";
import type { LabMessage, LabRequest } from "./lab-protocol.ts";

/** A guest that has not ended by then is compared as far as it came. */
const MAX_INSTRUCTIONS = 20_000_000;

const post = (message: LabMessage): void => self.postMessage(message);

self.onmessage = ({ data }: MessageEvent<LabRequest>) => {
  const { program, kernel, cost } = data;
  try {
    const image = parseImage(program.bytes, {
      ...(program.mode === undefined ? {} : { mode: program.mode }),
      ...(program.load === undefined ? {} : { load: program.load }),
    });
    const model = costModel(cost);
    const report = compare({
      image,
      kernel,
      cost: model,
      maxInstructions: MAX_INSTRUCTIONS,
      progress: (policy, host) => post({ kind: "progress", text: `host value ${host}, ${policy}` }),
    });
    post({
      kind: "report",
      report: {
        model: model.name,
        exit: model.exit.cycles,
        wrmsr: model.wrmsr.cycles,
        rdmsr: model.rdmsr.cycles,
        rows: report.rows.map((row) => ({
          policy: row.policy,
          host: row.host,
          right: row.right,
          wrong: row.wrong,
          exits: row.exits,
          cpuidExits: row.cpuidExits,
          wrmsr: row.wrmsr,
          rdmsr: row.rdmsr,
          total: row.cycles.total,
          leaks: row.leaks.faulting,
          cheapest: report.winners.some(({ host, policies }) => host === row.host && policies.includes(row.policy)),
        })),
        breakEven: report.breakEven,
        ending: report.reference.ending.kind,
      },
    });
  } catch (error) {
    post({ kind: "error", message: error instanceof Error ? error.message : String(error) });
  }
};
