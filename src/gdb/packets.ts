// Framing of the GDB remote serial protocol: $data#checksum, acknowledgements, the interrupt byte.
// GDB manual, "Packets".

const DOLLAR = 0x24;
const HASH = 0x23;
const ESCAPE = 0x7d;
const STAR = 0x2a;
const PLUS = 0x2b;
const MINUS = 0x2d;
const INTERRUPT = 0x03;
const ESCAPED = 0x20;

/** What the bytes from GDB say. */
export type Incoming =
  | { readonly kind: "packet" /** Unescaped. */; readonly data: Uint8Array }
  | { readonly kind: "bad"; readonly why: string }
  | { readonly kind: "ack" }
  | { readonly kind: "nak" }
  | { readonly kind: "interrupt" };

const sum = (bytes: Iterable<number>): number => {
  let total = 0;
  for (const byte of bytes) total = (total + byte) & 0xff;
  return total;
};

const hexDigit = (byte: number): number => Number.parseInt(String.fromCharCode(byte), 16);

function withoutEscapes(raw: readonly number[]): Uint8Array {
  const out: number[] = [];
  for (let i = 0; i < raw.length; i++) {
    const byte = raw[i]!;
    out.push(byte === ESCAPE && i + 1 < raw.length ? raw[++i]! ^ ESCAPED : byte);
  }
  return Uint8Array.from(out);
}

/** Cuts a stream of bytes, in whatever pieces it arrives, into packets. Keeps at most `limit` bytes. */
export class PacketReader {
  #state: "idle" | "data" | "sum1" | "sum2" | "skip" = "idle";
  #data: number[] = [];
  #first = 0;
  readonly #limit: number;

  constructor(limit: number) {
    this.#limit = limit;
  }

  *push(bytes: Uint8Array): Generator<Incoming> {
    for (const byte of bytes) {
      const found = this.#byte(byte);
      if (found !== undefined) yield found;
    }
  }

  #byte(byte: number): Incoming | undefined {
    switch (this.#state) {
      case "idle":
        return this.#idle(byte);
      case "data":
        if (byte === DOLLAR) {
          // the end of the last one was lost
          this.#data = [];
          return { kind: "bad", why: "a packet began inside a packet" };
        }
        if (byte === HASH) this.#state = "sum1";
        else if (this.#data.length >= this.#limit) {
          this.#state = "skip";
          return { kind: "bad", why: `a packet has more than ${this.#limit} bytes` };
        } else this.#data.push(byte);
        return undefined;
      case "skip":
        // the rest of one that is too long, with its checksum
        if (byte === HASH) this.#state = "idle";
        return undefined;
      case "sum1":
        this.#first = byte;
        this.#state = "sum2";
        return undefined;
      case "sum2": {
        this.#state = "idle";
        const said = hexDigit(this.#first) * 16 + hexDigit(byte);
        const real = sum(this.#data);
        if (said !== real)
          return { kind: "bad", why: `checksum ${said.toString(16)}, the bytes give ${real.toString(16)}` };
        return { kind: "packet", data: withoutEscapes(this.#data) };
      }
    }
  }

  #idle(byte: number): Incoming | undefined {
    switch (byte) {
      case DOLLAR:
        this.#data = [];
        this.#state = "data";
        return undefined;
      case PLUS:
        return { kind: "ack" };
      case MINUS:
        return { kind: "nak" };
      case INTERRUPT:
        return { kind: "interrupt" };
      default:
        return undefined;
    }
  }
}

/** $data#checksum, with #, $, } and * escaped. Text counts as Latin-1. */
export function encodePacket(data: string | Uint8Array): Uint8Array {
  const bytes = typeof data === "string" ? Uint8Array.from(data, (c) => c.charCodeAt(0)) : data;
  const body: number[] = [];
  for (const byte of bytes) {
    if (byte === DOLLAR || byte === HASH || byte === ESCAPE || byte === STAR) body.push(ESCAPE, byte ^ ESCAPED);
    else body.push(byte);
  }
  const check = sum(body).toString(16).padStart(2, "0");
  return Uint8Array.of(DOLLAR, ...body, HASH, check.charCodeAt(0), check.charCodeAt(1));
}
