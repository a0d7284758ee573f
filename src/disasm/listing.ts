// Runs of instructions with addresses and names.
import { type Disassembly, disassemble } from "./disassemble.ts";
import type { CodeSymbol } from "./elf.ts";
import type { DisassemblyMode } from "./fields.ts";

export interface ListedInstruction extends Disassembly {
  readonly address: bigint;
  readonly bytes: Uint8Array;
}

export interface ListingOptions {
  readonly mode: DisassemblyMode;
  /** Address of the first byte. */
  readonly address: bigint;
  /** First address that is listed, and the first that is not; default: all. */
  readonly start?: bigint;
  readonly stop?: bigint;
}

/** Every instruction of `bytes` in turn; where there is none, one byte as `(bad)`. */
export function* listing(bytes: Uint8Array, options: ListingOptions): Generator<ListedInstruction> {
  const { mode, address: base } = options;
  const end = base + BigInt(bytes.length);
  const first = options.start === undefined || options.start < base ? base : options.start;
  const last = options.stop === undefined || options.stop > end ? end : options.stop;
  for (let address = first; address < last; ) {
    const at = Number(address - base);
    const found = disassemble(bytes.subarray(at), { mode, address });
    const length = found.valid ? found.length : 1;
    yield { ...found, length, address, bytes: bytes.subarray(at, at + length) };
    address += BigInt(length);
  }
}

/** Names of addresses: `main`, `main+0x12`, undefined below the first symbol. */
export class SymbolNames {
  readonly #symbols: readonly CodeSymbol[];

  /** @param symbols lowest address first */
  constructor(symbols: readonly CodeSymbol[]) {
    this.#symbols = symbols;
  }

  /** Names that stand exactly at the address. */
  at(address: bigint): string[] {
    const names: string[] = [];
    for (let i = this.#below(address); i >= 0 && this.#symbols[i]!.address === address; i--) {
      names.unshift(this.#symbols[i]!.name);
    }
    return names;
  }

  near(address: bigint): string | undefined {
    let i = this.#below(address);
    const symbol = this.#symbols[i];
    if (symbol === undefined) return undefined;
    while (i > 0 && this.#symbols[i - 1]!.address === symbol.address) i--;
    const offset = address - symbol.address;
    const { name } = this.#symbols[i]!;
    return offset === 0n ? name : `${name}+0x${offset.toString(16)}`;
  }

  /** Index of the last symbol at or below the address, -1: none. */
  #below(address: bigint): number {
    let [low, high] = [0, this.#symbols.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.#symbols[middle]!.address <= address) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }
}
