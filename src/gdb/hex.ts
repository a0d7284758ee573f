/** A packet whose content makes no sense: answered with an error, without effect. */
export class BadPacket extends Error {
  override name = "BadPacket";
}

export const hexOf = (bytes: Uint8Array): string => {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
};

/** Bytes of pairs of hexadecimal digits. */
export function bytesOf(text: string): Uint8Array {
  if (text.length % 2 !== 0 || /[^0-9a-f]/i.test(text)) throw new BadPacket("no pairs of hexadecimal digits");
  const bytes = new Uint8Array(text.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = Number.parseInt(text.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

const U64 = 0xffff_ffff_ffff_ffffn;

export function addressOf(text: string | undefined): bigint {
  if (text === undefined || !/^[0-9a-f]{1,16}$/i.test(text)) throw new BadPacket("no address");
  return BigInt(`0x${text}`);
}

/** A whole number of at most `most`. */
export function numberOf(text: string | undefined, most: number): number {
  if (text === undefined || !/^[0-9a-f]{1,12}$/i.test(text)) throw new BadPacket("no number");
  const value = Number.parseInt(text, 16);
  if (value > most) throw new BadPacket(`number above ${most}`);
  return value;
}

/** A register's value in the target's byte order. */
export function littleEndian(value: bigint, bytes: number): string {
  let text = "";
  for (let i = 0; i < bytes; i++)
    text += Number((value >> BigInt(8 * i)) & 0xffn)
      .toString(16)
      .padStart(2, "0");
  return text;
}

export function fromLittleEndian(bytes: Uint8Array): bigint {
  let value = 0n;
  for (let i = bytes.length - 1; i >= 0; i--) value = (value << 8n) | BigInt(bytes[i]!);
  return value & U64;
}

export const hexText = (text: string): string => hexOf(new TextEncoder().encode(text));
