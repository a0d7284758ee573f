// A file of the reader's own: what it is, and why it is not taken.
import type { Program } from "../session/protocol.ts";

/** RAM is 16 MiB. */
const MAX_BYTES = 8 << 20;
const SECTOR = 512;

const SIGNATURES: readonly (readonly [bytes: readonly number[], what: string])[] = [
  [[0x89, 0x50, 0x4e, 0x47], "a PNG picture"],
  [[0xff, 0xd8, 0xff], "a JPEG picture"],
  [[0x47, 0x49, 0x46, 0x38], "a GIF picture"],
  [[0x25, 0x50, 0x44, 0x46], "a PDF document"],
  [[0x50, 0x4b, 0x03, 0x04], "a ZIP archive"],
  [[0x1f, 0x8b], "compressed with gzip; unpack it first"],
  [[0xfd, 0x37, 0x7a, 0x58, 0x5a], "compressed with xz; unpack it first"],
  [[0x4d, 0x5a], "a Windows or DOS program; flat binaries and static ELF executables run here"],
  [[0xcf, 0xfa, 0xed, 0xfe], "a macOS program; flat binaries and static ELF executables run here"],
  [[0x00, 0x61, 0x73, 0x6d], "a WebAssembly module; x86 machine code runs here"],
];

export type Opened =
  | { readonly kind: "source"; readonly name: string; readonly source: string }
  | { readonly kind: "binary"; readonly program: Program };

export class FileError extends Error {
  override name = "FileError";
}

function isElf(bytes: Uint8Array): boolean {
  return bytes[0] === 0x7f && bytes[1] === 0x45 && bytes[2] === 0x4c && bytes[3] === 0x46;
}

function asText(bytes: Uint8Array): string | undefined {
  if (bytes.includes(0)) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return undefined;
  }
}

/** Throws FileError with a sentence for the reader. */
export async function openFile(file: File): Promise<Opened> {
  const { name, size } = file;
  if (size === 0) throw new FileError(`${name} is empty.`);
  if (size > MAX_BYTES)
    throw new FileError(
      `${name} has ${size.toLocaleString("en")} bytes; the guest's RAM takes files of at most ${MAX_BYTES.toLocaleString("en")}.`,
    );
  let bytes: Uint8Array;
  try {
    bytes = new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new FileError(`${name} cannot be read (is it a folder?).`);
  }
  const found = SIGNATURES.find(([start]) => start.every((byte, i) => bytes[i] === byte));
  if (found) throw new FileError(`${name} is ${found[1]}.`);
  if (isElf(bytes)) return { kind: "binary", program: { name, bytes } };
  const text = /\.(asm|s|nasm|inc|txt)$/i.test(name) || size > SECTOR ? asText(bytes) : undefined;
  if (text !== undefined) return { kind: "source", name, source: text };
  const boot = size >= SECTOR && bytes[510] === 0x55 && bytes[511] === 0xaa;
  return { kind: "binary", program: { name, bytes, mode: boot ? "real" : "long", load: boot ? 0x7c00 : 0x100000 } };
}
