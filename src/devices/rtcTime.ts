// Time fields of an MC146818: BCD or binary, 12 or 24 hours, as register B says.

const B_BINARY = 0x04;
const B_24_HOURS = 0x02;
const PM = 0x80;

const HOURS = 4;
const DAY_OF_WEEK = 6;

export interface RtcDate {
  readonly second: number;
  readonly minute: number;
  readonly hour: number;
  /** Sunday is 1. */
  readonly weekday: number;
  readonly day: number;
  /** January is 1. */
  readonly month: number;
  readonly year: number;
}

/** @param seconds since 1970-01-01 UTC */
export function dateOf(seconds: bigint): RtcDate {
  const date = new Date(Number(seconds) * 1000);
  return {
    second: date.getUTCSeconds(),
    minute: date.getUTCMinutes(),
    hour: date.getUTCHours(),
    weekday: date.getUTCDay() + 1,
    day: date.getUTCDate(),
    month: date.getUTCMonth() + 1,
    year: date.getUTCFullYear(),
  };
}

const coded = (value: number, b: number) => (b & B_BINARY ? value : Math.trunc(value / 10) * 16 + (value % 10));
const decoded = (value: number, b: number) => (b & B_BINARY ? value : (value >> 4) * 10 + (value & 15));

/** What the register at `index` holds for a date. */
export function storedValue(index: number, date: RtcDate, b: number): number {
  switch (index) {
    case 0:
      return coded(date.second, b);
    case 2:
      return coded(date.minute, b);
    case HOURS:
      if (b & B_24_HOURS) return coded(date.hour, b);
      return coded(date.hour % 12 || 12, b) | (date.hour >= 12 ? PM : 0);
    case DAY_OF_WEEK:
      return coded(date.weekday, b);
    case 7:
      return coded(date.day, b);
    case 8:
      return coded(date.month, b);
    case 9:
      return coded(date.year % 100, b);
    default:
      return coded(Math.trunc(date.year / 100), b);
  }
}

/** The number that a register's byte stands for. */
export function fieldValue(index: number, byte: number, b: number): number {
  if (index !== HOURS || b & B_24_HOURS) return decoded(byte, b);
  return (decoded(byte & ~PM, b) % 12) + (byte & PM ? 12 : 0);
}

/** Seconds since 1970 of [second, minute, hour, weekday, day, month, year, century]; fields out of range carry over. */
export function secondsOf(fields: readonly number[]): bigint {
  const [second, minute, hour, , day, month, year, century] = fields as [
    number,
    number,
    number,
    number,
    number,
    number,
    number,
    number,
  ];
  const ms = Date.UTC(century * 100 + year, month - 1, day, hour, minute, second);
  return Number.isNaN(ms) ? 0n : BigInt(Math.floor(ms / 1000));
}

/** Alarm bytes of 0xC0 and above match every value. */
const ANY = 0xc0;
const DAY = 86_400;

/**
 * Seconds from `second` (since 1970) to the first time of day that the alarm's hour, minute and second bytes match, 0 for
 * `second` itself.
 */
export function alarmAfter(second: bigint, alarm: readonly [number, number, number], b: number): number | undefined {
  const values = alarm.map((byte, i) => (byte >= ANY ? undefined : fieldValue(HOURS - 2 * i, byte, b)));
  const [hour, minute, sec] = values as [number | undefined, number | undefined, number | undefined];
  if ((hour ?? 0) > 23 || (minute ?? 0) > 59 || (sec ?? 0) > 59) return undefined;
  const now = Number(second % BigInt(DAY));
  for (let at = now; at < now + DAY; ) {
    const time = at % DAY;
    // to the start of the next hour, minute or second that can match
    if (hour !== undefined && Math.trunc(time / 3600) !== hour) at += 3600 - (time % 3600);
    else if (minute !== undefined && Math.trunc(time / 60) % 60 !== minute) at += 60 - (time % 60);
    else if (sec !== undefined && time % 60 !== sec) at++;
    else return at - now;
  }
  return undefined;
}
