/** Columns of every table below. */
export const COLUMNS = ["upstream", "clear-host", "always-hardware", "host-nonzero", "clear-all"] as const;
export type Column = (typeof COLUMNS)[number];

export interface Toggle {
  readonly host: bigint;
  readonly from: bigint;
  readonly to: bigint;
  /** Physical 0x140 before -> after one guest WRMSR while loaded / WRMSRs of the load / a CPL 3 CPUID afterwards. */
  readonly cells: Readonly<Record<Column, string>>;
}

function row(host: bigint, from: bigint, to: bigint, ...cells: string[]): Toggle {
  return { host, from, to, cells: Object.fromEntries(COLUMNS.map((name, i) => [name, cells[i]])) as Toggle["cells"] };
}

/** Toggles while loaded. */
export const TOGGLES: readonly Toggle[] = [
  row(0n, 0n, 1n, "0->0 / 0 / K", "0->0 / 0 / K", "0->1 / 2 / H", "0->0 / 0 / K", "0->0 / 0 / K"),
  row(0n, 1n, 0n, "0->0 / 0 / C", "0->0 / 0 / C", "1->0 / 2 / C", "0->0 / 0 / C", "0->0 / 0 / C"),
  row(0n, 1n, 1n, "0->0 / 0 / K", "0->0 / 0 / K", "1->1 / 3 / H", "0->0 / 0 / K", "0->0 / 0 / K"),
  row(1n, 0n, 1n, "1->1 / 0 / H", "0->0 / 2 / K", "0->1 / 2 / H", "0->1 / 2 / H", "0->0 / 2 / K"),
  row(1n, 1n, 0n, "1->1 / 0 / L", "0->0 / 2 / C", "1->0 / 2 / C", "1->0 / 2 / C", "0->0 / 2 / C"),
  row(2n, 0n, 1n, "2->2 / 0 / K", "2->2 / 0 / K", "2->1 / 2 / H", "0->1 / 3 / H", "0->0 / 2 / K"),
];

export interface Static {
  readonly host: bigint;
  readonly guest: bigint;
  /** Physical 0x140 in the guest / WRMSRs of the load. */
  readonly cells: Readonly<Record<Column, string>>;
}

function still(host: bigint, guest: bigint, ...cells: string[]): Static {
  return { host, guest, cells: Object.fromEntries(COLUMNS.map((name, i) => [name, cells[i]])) as Static["cells"] };
}

/** Static bits: the four cases of the thread, then the upper bits. */
export const STATICS: readonly Static[] = [
  still(0n, 0n, "0/0", "0/0", "0/0", "0/0", "0/0"),
  still(0n, 1n, "0/0", "0/0", "1/2", "0/0", "0/0"),
  still(1n, 0n, "1/0", "0/2", "0/2", "0/2", "0/2"),
  still(1n, 1n, "1/0", "0/2", "1/0", "1/0", "0/2"),
  still(2n, 1n, "2/0", "2/0", "3/2", "1/2", "0/2"),
  still(3n, 0n, "3/0", "2/2", "2/2", "0/2", "0/2"),
  still(3n, 1n, "3/0", "2/2", "3/0", "1/2", "0/2"),
];

/** The truth table of the thread: what a CPL 3 CPUID does, the letters as in Toggle. */
export const THREAD: readonly { host: bigint; guest: bigint; cells: Readonly<Record<Column, string>> }[] = [
  still(0n, 0n, "C", "C", "C", "C", "C"),
  still(0n, 1n, "K", "K", "H", "K", "K"),
  still(1n, 0n, "L", "C", "C", "C", "C"),
  still(1n, 1n, "H", "K", "H", "H", "K"),
];

/** RDMSRs of a load that enters the guest. */
export const READS: Readonly<Record<Column, number>> = {
  upstream: 0,
  "clear-host": 1,
  "always-hardware": 1,
  "host-nonzero": 0,
  "clear-all": 0,
};
