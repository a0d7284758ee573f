// The program of the worker in worker.test.ts: a machine whose port 80H counts.
import { parentPort } from "node:worker_threads";
import { serveMachine } from "../../dist/src/worker/index.js";

serveMachine(parentPort, (machine) => {
  let outs = 0;
  machine.onPortOut(0x80, () => void outs++);
  return {
    outs: () => outs,
    fail: () => {
      throw new RangeError("as asked");
    },
  };
});
