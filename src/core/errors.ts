/** Every error this package throws on purpose, except TypeError and RangeError for wrong arguments. */
export class WasmVmxError extends Error {
  override name = "WasmVmxError";
}

/** A physical address range that is not mapped, is mapped twice, or does not fit. */
export class MemoryMapError extends WasmVmxError {
  override name = "MemoryMapError";
  constructor(
    message: string,
    readonly address: bigint,
    readonly size: number,
  ) {
    super(message);
  }
}

/** The engine found no address space for the memory of another processor. `bytes`: what it needs. */
export class AddressSpaceError extends WasmVmxError {
  override name = "AddressSpaceError";
  constructor(
    message: string,
    readonly bytes: number,
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A linear address that the present paging does not translate. */
export class TranslationError extends WasmVmxError {
  override name = "TranslationError";
  constructor(
    message: string,
    readonly address: bigint,
  ) {
    super(message);
  }
}

/** A guest image that cannot be loaded as it is. `offset` is a byte offset in the file, where one is to blame. */
export class GuestImageError extends WasmVmxError {
  override name = "GuestImageError";
  constructor(
    message: string,
    readonly detail: { readonly file?: string; readonly offset?: number } = {},
  ) {
    super(message);
  }
}

/** A state that must not exist: a fault of this package, not of the guest or the caller. Please report it. */
export class InternalError extends WasmVmxError {
  override name = "InternalError";
  constructor(
    message: string,
    readonly detail: { readonly code?: number; readonly rip?: bigint; readonly mode?: 16 | 32 | 64 } = {},
    options?: ErrorOptions,
  ) {
    super(message, options);
  }
}

/** A call that is not possible now: run, step or map inside a callback, or anything after dispose. */
export class StateError extends WasmVmxError {
  override name = "StateError";
}
