// Guests that the page comes with: sources in the page, binaries beside it.
import bootSector from "../../fixtures/guests/src/boot-sector.asm";
import echo from "../guests/echo.asm";
import exits from "../guests/exits.asm";
import faulting from "../guests/faulting.asm";
import forever from "../guests/forever.asm";
import hello from "../guests/hello.asm";
import type { Program } from "../session/protocol.ts";

export interface SourceGuest {
  readonly name: string;
  readonly title: string;
  readonly source: string;
}

export const SOURCES: readonly SourceGuest[] = [
  { name: "hello", title: "Hello (64-bit)", source: hello },
  { name: "exits", title: "A tour of VM exits", source: exits },
  { name: "faulting", title: "CPUID faulting at CPL 3", source: faulting },
  { name: "echo", title: "Echo: console input", source: echo },
  { name: "boot-sector", title: "Boot sector (16-bit)", source: bootSector },
  { name: "forever", title: "Never ends (32-bit)", source: forever },
];

/** A record of guests/manifest.json. */
export interface BinaryGuest {
  readonly name: string;
  readonly description: string;
  readonly mode: NonNullable<Program["mode"]>;
  readonly file: string;
  readonly load?: number;
  /** Only this way. */
  readonly under?: "bare";
}

export async function binaryGuests(): Promise<readonly BinaryGuest[]> {
  const response = await fetch("./guests/manifest.json");
  if (!response.ok) throw new Error(`guests/manifest.json: ${response.status} ${response.statusText}`);
  return (await response.json()) as BinaryGuest[];
}

export async function fetchGuest({ name, file, mode, load }: BinaryGuest): Promise<Program> {
  const response = await fetch(`./guests/${file}`);
  if (!response.ok) throw new Error(`guests/${file}: ${response.status} ${response.statusText}`);
  const bytes = new Uint8Array(await response.arrayBuffer());
  return { name, bytes, ...(load === undefined ? {} : { mode, load }) };
}
