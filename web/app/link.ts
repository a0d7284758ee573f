// A session in the part of the address after "#": JSON, deflated, in base64url. Nothing is sent to a server.
import type { MachineSettings } from "../session/protocol.ts";

export interface SavedSession {
  readonly version: 1;
  readonly settings: MachineSettings;
  /** The program: text, a guest of the page, or bytes in base64. */
  readonly source?: string;
  readonly guest?: string;
  readonly binary?: { readonly name: string; readonly base64: string; readonly mode?: string; readonly load?: number };
  readonly breakpoints: readonly number[];
  /** Instructions to run before the page is shown. */
  readonly at: number;
  readonly tab: string;
}

const PREFIX = "#s=";
/** Longer addresses are cut by some programs. */
export const MAX_LINK = 32_000;

async function through(bytes: Uint8Array<ArrayBuffer>, stream: GenericTransformStream): Promise<Uint8Array> {
  const out = new Blob([bytes]).stream().pipeThrough(stream as ReadableWritablePair<Uint8Array, BufferSource>);
  return new Uint8Array(await new Response(out).arrayBuffer());
}

export function toBase64(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return btoa(text);
}

export function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  return Uint8Array.from(binary, (c) => c.charCodeAt(0));
}

/** The fragment that stands for the session. */
export async function encodeSession(session: SavedSession): Promise<string> {
  const json = new TextEncoder().encode(JSON.stringify(session));
  const packed = await through(json, new CompressionStream("deflate-raw"));
  return PREFIX + toBase64(packed).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

/** undefined: the fragment holds no session. Throws with a sentence for the reader when it holds a broken one. */
export async function decodeSession(fragment: string): Promise<SavedSession | undefined> {
  if (!fragment.startsWith(PREFIX)) return undefined;
  try {
    const packed = fromBase64(fragment.slice(PREFIX.length).replaceAll("-", "+").replaceAll("_", "/"));
    const json = await through(packed, new DecompressionStream("deflate-raw"));
    const session = JSON.parse(new TextDecoder().decode(json)) as SavedSession;
    if (session.version !== 1) throw new Error(`version ${session.version}`);
    return session;
  } catch {
    throw new Error("The link is damaged or from another version of this page: the session in it cannot be read.");
  }
}
