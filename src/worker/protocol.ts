// What goes between a page and the worker that runs its machine.
import {
  AddressSpaceError,
  GuestImageError,
  InternalError,
  MemoryMapError,
  StateError,
  TranslationError,
  WasmVmxError,
} from "../core/index.ts";
import {
  type Exit,
  type FlatOptions,
  type Machine,
  type MachineOptions,
  MsrError,
  type MsrName,
  type MsrUpdate,
  type RegisterUpdate,
  type RegisterValues,
  type RunOptions,
  type RunProgress,
} from "../machine/index.ts";
import { SnapshotError } from "../snapshot/index.ts";

/** Methods of Machine that a remote one has under the same name, with the same arguments. */
export const METHODS = [
  "reset",
  "map",
  "unmap",
  "protect",
  "readMemory",
  "writeMemory",
  "readVirtual",
  "writeVirtual",
  "translate",
  "readMsr",
  "writeMsr",
  "cpuid",
  "interrupt",
  "nmi",
  "addBreakpoint",
  "addWatchpoint",
  "removeBreakpoint",
  "step",
  "run",
  "record",
  "stopRecording",
  "rewind",
  "reverseStep",
  "reverseContinue",
  "seek",
] as const satisfies readonly (keyof Machine)[];
export type RemoteMethod = (typeof METHODS)[number];

/** Properties that are read with get(). */
export const PROPERTIES = [
  "instructionCount",
  "tsc",
  "codeMode",
  "ramSize",
  "regions",
  "breakpoints",
  "watchpoints",
  "recording",
] as const satisfies readonly (keyof Machine)[];
export type RemoteProperty = (typeof PROPERTIES)[number];

/** An error with its data, as structured clones carry it. */
export interface SentError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  readonly data: Readonly<Record<string, unknown>>;
}

export type Answer<T> = { readonly value: T } | { readonly error: SentError };

export interface RunAsyncRequest extends RunOptions {
  readonly sliceMs?: number;
}

/** The worker's side. */
export interface MachineService {
  create(options: Omit<MachineOptions, "jit"> & { readonly jit?: boolean | number }): Answer<void>;
  call(method: RemoteMethod, args: readonly unknown[]): Answer<unknown>;
  get(property: RemoteProperty): Answer<unknown>;
  readRegisters(): Answer<RegisterValues>;
  writeRegisters(update: RegisterUpdate): Answer<void>;
  readMsrs(msrs: readonly (MsrName | number)[] | undefined): Answer<Record<string, bigint | undefined>>;
  writeMsrs(update: MsrUpdate): Answer<void>;
  load(bytes: Uint8Array, options: FlatOptions): Answer<void>;
  runAsync(request: RunAsyncRequest, onProgress: ((progress: RunProgress) => void) | undefined): Promise<Answer<Exit>>;
  abort(): void;
  snapshot(): Answer<Uint8Array<ArrayBuffer>>;
  restore(bytes: Uint8Array): Answer<void>;
  /** A function that the worker's program offers. */
  app(name: string, args: readonly unknown[]): Promise<Answer<unknown>>;
  dispose(): Answer<void>;
}

const CLASSES: Readonly<Record<string, { readonly prototype: Error }>> = {
  WasmVmxError,
  MemoryMapError,
  TranslationError,
  GuestImageError,
  InternalError,
  StateError,
  SnapshotError,
  AddressSpaceError,
  MsrError,
  TypeError,
  RangeError,
};

export function sendError(error: unknown): SentError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error), stack: undefined, data: {} };
  const data = Object.fromEntries(Object.entries(error).filter(([, value]) => typeof value !== "function"));
  return { name: error.name, message: error.message, stack: error.stack, data };
}

/** An error of the same class, with the same data. */
export function receivedError({ name, message, stack, data }: SentError): Error {
  const error = Object.create((CLASSES[name] ?? Error).prototype) as Error;
  Object.defineProperty(error, "message", { value: message });
  Object.defineProperty(error, "stack", { value: stack ?? `${name}: ${message}` });
  return Object.assign(error, data, { name });
}

export function answer<T>(body: () => T): Answer<T> {
  try {
    return { value: body() };
  } catch (error) {
    return { error: sendError(error) };
  }
}

export function take<T>(reply: Answer<T>): T {
  if ("error" in reply) throw receivedError(reply.error);
  return reply.value;
}
