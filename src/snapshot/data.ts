// Plain data as JSON text, with bigints and bytes.

/** What a device keeps: plain data. */
export type SavedData =
  | null
  | boolean
  | number
  | string
  | bigint
  | Uint8Array
  | readonly SavedData[]
  | { readonly [name: string]: SavedData };

/** Something whose state belongs to a machine's: a device, or a program around it. */
export interface Saveable {
  save(): SavedData;
  /** What save() gave. Throw when it does not fit. */
  restore(state: SavedData): void;
}

const BIG = "$bigint";
const BYTES = "$bytes";

export function encodeData(value: unknown): string {
  return JSON.stringify(value, (_key, item) => {
    if (typeof item === "bigint") return { [BIG]: item.toString() };
    if (item instanceof Uint8Array) return { [BYTES]: btoa(Array.from(item, (b) => String.fromCharCode(b)).join("")) };
    return item;
  });
}

export function decodeData(text: string): unknown {
  return JSON.parse(text, (_key, item) => {
    if (typeof item !== "object" || item === null) return item;
    if (typeof item[BIG] === "string") return BigInt(item[BIG]);
    if (typeof item[BYTES] === "string") return Uint8Array.from(atob(item[BYTES]), (c) => c.charCodeAt(0));
    return item;
  });
}
