// Memory at linear addresses, for the host.
import type { Core } from "./core.ts";
import { TranslationError } from "./errors.ts";

const PAGE = 4096;

/** Physical pieces of a linear range, inside one page each, whatever the privilege and write permission. */
function pieces(core: Core, linear: bigint, size: number, what: string) {
  const found: { physical: bigint; offset: number; bytes: number }[] = [];
  for (let offset = 0; offset < size; ) {
    const at = BigInt.asUintN(64, linear + BigInt(offset));
    const physical = core.translate(at, 0, 1) ?? core.translate(at, 0, 2);
    if (physical === undefined) {
      throw new TranslationError(
        `cannot ${what} ${size} bytes at linear 0x${linear.toString(16)}: no page is mapped at 0x${at.toString(16)}`,
        at,
      );
    }
    const bytes = Math.min(size - offset, PAGE - Number(physical & 0xfffn));
    found.push({ physical, offset, bytes });
    offset += bytes;
  }
  return found;
}

/** A copy. TranslationError where no page is mapped, MemoryMapError where the page leads to no RAM. */
export function readLinear(core: Core, linear: bigint, size: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(size);
  for (const { physical, offset, bytes } of pieces(core, linear, size, "read")) {
    out.set(core.readPhysical(physical, bytes), offset);
  }
  return out;
}

/** All or nothing; errors as readLinear(). */
export function writeLinear(core: Core, linear: bigint, data: Uint8Array): void {
  const parts = pieces(core, linear, data.length, "write");
  for (const { physical, bytes } of parts) core.readPhysical(physical, bytes);
  for (const { physical, offset, bytes } of parts) core.writePhysical(physical, data.subarray(offset, offset + bytes));
}
