// What the guest may do with physical memory, beyond what its page tables say. Kept by the processor's traps: memory that
// may be used freely costs nothing.
import { TrapKind, TrapList } from "../../assembly/abi/layout.ts";
import type { Trap, TrapSet } from "./traps.ts";

/** What is allowed; what is left out is not. */
export interface Permissions {
  readonly read?: boolean;
  readonly write?: boolean;
  readonly execute?: boolean;
}

interface Denied {
  readonly first: bigint;
  readonly last: bigint;
  readonly data: Trap | undefined;
  readonly code: Trap | undefined;
}

export class PermissionMap {
  readonly #traps: TrapSet;
  #denied: Denied[] = [];

  constructor(traps: TrapSet) {
    this.#traps = traps;
  }

  /** Replaces what was said of these bytes before. */
  set(first: bigint, last: bigint, { read = false, write = false, execute = false }: Permissions): void {
    this.clear(first, last);
    this.#deny(first, last, (read ? 0 : TrapKind.DenyRead) | (write ? 0 : TrapKind.DenyWrite), !execute);
  }

  /** Everything is allowed. */
  clear(first: bigint, last: bigint): void {
    for (const entry of this.#denied.filter((e) => e.first <= last && e.last >= first)) {
      this.#denied = this.#denied.filter((e) => e !== entry);
      if (entry.data) this.#traps.delete(entry.data);
      if (entry.code) this.#traps.delete(entry.code);
      const kinds = entry.data?.kinds ?? 0;
      if (entry.first < first) this.#deny(entry.first, first - 1n, kinds, entry.code !== undefined);
      if (entry.last > last) this.#deny(last + 1n, entry.last, kinds, entry.code !== undefined);
    }
  }

  #deny(first: bigint, last: bigint, kinds: number, execute: boolean): void {
    if (kinds === 0 && !execute) return;
    const data = kinds ? { list: TrapList.PhysicalData, first, last, kinds } : undefined;
    const code = execute ? { list: TrapList.PhysicalCode, first, last, kinds: TrapKind.DenyFetch } : undefined;
    if (data) this.#traps.add(data);
    if (code) this.#traps.add(code);
    this.#denied.push({ first, last, data, code });
  }
}
