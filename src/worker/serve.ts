import { expose, transfer } from "comlink";
import { StateError } from "../core/index.ts";
import { loadImage, Machine, parseImage } from "../machine/index.ts";
import { snapshotFromBytes, snapshotToBytes } from "../snapshot/index.ts";
import { asEndpoint, type MachineEndpoint } from "./endpoint.ts";
import { answer, type MachineService, METHODS, PROPERTIES, sendError } from "./protocol.ts";

/** Functions that the other side may call with app(); arguments and results are cloned. */
export type WorkerApp = Readonly<Record<string, (...args: never[]) => unknown>>;

/**
 * The worker's side: makes the machine that the other side asks for and does what it says. Hooks are synchronous, so they are
 * set here, in `setup`, which may return functions for the other side.
 */
export function serveMachine(endpoint: MachineEndpoint, setup?: (machine: Machine) => WorkerApp | undefined): void {
  let machine: Machine | undefined;
  let app: WorkerApp = {};
  let controller: AbortController | undefined;

  const now = (): Machine => {
    if (!machine) throw new StateError("there is no machine in this worker: connectMachine() makes one");
    return machine;
  };
  const service: MachineService = {
    create: (options) =>
      answer(() => {
        machine = new Machine(options);
        app = setup?.(machine) ?? {};
      }),
    call: (method, args) =>
      answer(() => {
        if (!METHODS.includes(method)) throw new TypeError(`a machine in a worker has no method ${String(method)}`);
        const body = now()[method] as (...args: unknown[]) => unknown;
        return body.apply(now(), [...args]);
      }),
    get: (property) =>
      answer(() => {
        if (!PROPERTIES.includes(property)) throw new TypeError(`a machine in a worker has no ${String(property)}`);
        return now()[property];
      }),
    readRegisters: () => answer(() => now().registers.read()),
    writeRegisters: (update) => answer(() => void now().registers.write(update)),
    readMsrs: (msrs) => answer(() => (msrs ? now().msrs.read(msrs) : now().msrs.read())),
    writeMsrs: (update) => answer(() => void now().msrs.write(update)),
    load: (bytes, options) => answer(() => loadImage(now(), parseImage(bytes, options))),
    runAsync: async (request, onProgress) => {
      controller = new AbortController();
      const { signal } = controller;
      try {
        return { value: await now().runAsync({ ...request, signal, ...(onProgress ? { onProgress } : {}) }) };
      } catch (error) {
        return { error: sendError(error) };
      }
    },
    abort: () => controller?.abort(),
    snapshot: () => {
      const reply = answer(() => snapshotToBytes(now().snapshot()));
      return "value" in reply ? transfer(reply, [reply.value.buffer]) : reply;
    },
    restore: (bytes) => answer(() => now().restore(snapshotFromBytes(bytes))),
    app: async (name, args) => {
      try {
        const body = Object.hasOwn(app, name) ? app[name] : undefined;
        if (!body) throw new TypeError(`the worker's program offers no function ${JSON.stringify(name)}`);
        return { value: await (body as (...args: readonly unknown[]) => unknown)(...args) };
      } catch (error) {
        return { error: sendError(error) };
      }
    },
    dispose: () =>
      answer(() => {
        machine?.dispose();
        machine = undefined;
      }),
  };
  expose(service, asEndpoint(endpoint));
}
