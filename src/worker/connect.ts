import { proxy, type Remote, releaseProxy, wrap } from "comlink";
import type {
  Exit,
  FlatOptions,
  Machine,
  MachineOptions,
  MsrName,
  MsrUpdate,
  MsrValues,
  RegisterUpdate,
  RegisterValues,
  RunAsyncOptions,
} from "../machine/index.ts";
import { asEndpoint, type MachineEndpoint } from "./endpoint.ts";
import { type MachineService, METHODS, type RemoteMethod, type RemoteProperty, take } from "./protocol.ts";

export type Promised<T extends (...args: never[]) => unknown> = (...args: Parameters<T>) => Promise<ReturnType<T>>;
type SameMethods = { readonly [K in RemoteMethod]: Promised<Machine[K]> };

/**
 * A machine in a worker: Machine's methods with the same names, arguments and errors, as promises. Registers, properties and
 * snapshots have calls of their own; hooks belong into the worker (serveMachine).
 */
export interface RemoteMachine extends SameMethods {
  get<K extends RemoteProperty>(property: K): Promise<Machine[K]>;
  readRegisters(): Promise<RegisterValues>;
  writeRegisters(update: RegisterUpdate): Promise<void>;
  /** machine.msrs.read() and write(). */
  readMsrs(): Promise<MsrValues>;
  readMsrs<M extends MsrName | number>(msrs: readonly M[]): Promise<Record<M, bigint | undefined>>;
  writeMsrs(update: MsrUpdate): Promise<void>;
  /** parseImage() and loadImage(): a flat binary or ELF. */
  load(bytes: Uint8Array, options?: FlatOptions): Promise<void>;
  /** As Machine.runAsync(): the signal ends it with "aborted", onProgress is called between slices. */
  runAsync(options?: RunAsyncOptions): Promise<Exit>;
  /** A snapshot as bytes, and back. */
  snapshot(): Promise<Uint8Array<ArrayBuffer>>;
  restore(bytes: Uint8Array): Promise<void>;
  /** Calls a function that the worker's setup offered. */
  app(name: string, ...args: unknown[]): Promise<unknown>;
  /** Lets go of the machine; the worker can serve another one. */
  dispose(): Promise<void>;
}

/** Makes a machine in the worker behind an endpoint, which runs serveMachine(). */
export async function connectMachine(
  endpoint: MachineEndpoint,
  options: Omit<MachineOptions, "jit"> & { readonly jit?: boolean | number } = {},
): Promise<RemoteMachine> {
  const service: Remote<MachineService> = wrap<MachineService>(asEndpoint(endpoint));
  take(await service.create(options));
  const methods = Object.fromEntries(
    METHODS.map((method) => [method, async (...args: unknown[]) => take(await service.call(method, args))]),
  ) as unknown as SameMethods;
  return {
    ...methods,
    get: async <K extends RemoteProperty>(property: K) => take(await service.get(property)) as Machine[K],
    readRegisters: async () => take(await service.readRegisters()),
    writeRegisters: async (update) => take(await service.writeRegisters(update)),
    readMsrs: async (msrs?: readonly (MsrName | number)[]) => take(await service.readMsrs(msrs)) as never,
    writeMsrs: async (update) => take(await service.writeMsrs(Symbol.iterator in update ? Array.from(update) : update)),
    load: async (bytes, flat = {}) => take(await service.load(bytes, flat)),
    runAsync: async ({ signal, onProgress, ...request } = {}) => {
      if (signal?.aborted) return { reason: "aborted", instructions: 0 };
      const abort = () => void service.abort();
      signal?.addEventListener("abort", abort, { once: true });
      try {
        return take(await service.runAsync(request, onProgress ? proxy(onProgress) : undefined));
      } finally {
        signal?.removeEventListener("abort", abort);
      }
    },
    snapshot: async () => take(await service.snapshot()),
    restore: async (bytes) => take(await service.restore(bytes)),
    app: async (name, ...args) => take(await service.app(name, args)),
    dispose: async () => {
      take(await service.dispose());
      service[releaseProxy]();
    },
  };
}
