// npm run bench:exits: VM exits a second, through a TypeScript hypervisor and in a guest that is a hypervisor.
import { readFileSync } from "node:fs";
import { bestOf, type ExitTiming, timeExits } from "./exits.ts";
import { timeGuestExits } from "./guestExits.ts";

const ROUNDS = 3;

function show(title: string, timings: readonly ExitTiming[]): string {
  const lines = timings.map(
    ({ name, exitsPerSecond, nanoseconds }) =>
      `${name.padEnd(14)} ${(exitsPerSecond / 1e6).toFixed(2).padStart(6)} M exits/s ${nanoseconds.toFixed(0).padStart(6)} ns`,
  );
  return `${[title, ...lines].join("\n")}\n`;
}

/** Arguments: the image of the guest hypervisor; exits in a round. */
export function main([image, exits]: readonly string[]): number {
  const count = Number(exits ?? 500_000);
  if (image === undefined || !Number.isInteger(count) || count < 1 || count > 0xffff_ffff) {
    process.stderr.write("usage: npm run bench:exits -- [EXITS]\n");
    return 1;
  }
  process.stdout.write(show("TypeScript hypervisor", timeExits(count, ROUNDS)));
  const guest = readFileSync(image);
  const rounds = Array.from({ length: ROUNDS }, () => timeGuestExits(guest, count));
  process.stdout.write(show("\nGuest hypervisor", bestOf(rounds)));
  return 0;
}
