/** 1234567.5 becomes "1,234,567.5": thousands apart, at most two decimals. The locale's data costs 20 ms to load. */
export function grouped(value: number | bigint): string {
  const [whole = "", decimals] = `${typeof value === "bigint" ? value : hundredths(value)}`.split(".");
  const apart = whole.replace(/\B(?=(\d{3})+$)/g, ",");
  return decimals === undefined ? apart : `${apart}.${decimals}`;
}

/** Halves of the decimal number that is read go up, though the binary one may be below: 0.425 becomes 0.43. */
function hundredths(value: number): number {
  const shifted = Number(`${value}e2`);
  return Number.isSafeInteger(value) || Number.isNaN(shifted) ? value : Math.round(shifted) / 100;
}
