// npx tsx test/web/assembler/record.ts: asks nasm for the bytes of every line of the corpus and writes nasm.json.
// A line that nasm refuses has null.
import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { corpus } from "./corpus.ts";

const HERE = 0x4000;

function ask(mode: 16 | 32 | 64, lines: readonly string[], folder: string): (string | null)[] {
  const refused = new Set<number>();
  const source = join(folder, "all.asm");
  const listing = join(folder, "all.lst");
  for (;;) {
    // every line at the same distance from the start of its own place, so that $ means the same alone
    const text = lines.map((line, i) => (refused.has(i) ? "nop" : line)).join("\n");
    writeFileSync(source, `bits ${mode}\norg ${HERE}\n${text}\n`);
    const args = [
      "-f",
      "bin",
      "-w-all",
      "-w+error=number-overflow",
      "-o",
      join(folder, "all.bin"),
      "-l",
      listing,
      source,
    ];
    const { status, stderr } = spawnSync("nasm", args, { encoding: "utf8" });
    if (status === 0) break;
    const before = refused.size;
    for (const [, number] of stderr.matchAll(/:(\d+): error/g)) refused.add(Number(number) - 3);
    if (refused.size === before) throw new Error(stderr);
  }
  const bytes = lines.map(() => "");
  for (const row of readFileSync(listing, "utf8").split("\n")) {
    const match = /^ *(\d+) [0-9A-F]{8} ([0-9A-F()[\]]+)-? *(.*)$/.exec(row);
    if (match) bytes[Number(match[1]) - 3] += match[2]!.replace(/[[\]()]/g, "").toLowerCase();
  }
  return bytes.map((hex, i) => (refused.has(i) || hex === "" ? null : hex));
}

const folder = mkdtempSync(join(tmpdir(), "nasm-"));
try {
  const version = execFileSync("nasm", ["--version"], { encoding: "utf8" }).trim();
  const modes = Object.fromEntries(
    ([16, 32, 64] as const).map((mode) => {
      const lines = corpus(mode);
      const answers = ask(mode, lines, folder);
      return [mode, lines.map((line, i) => [line, answers[i]])];
    }),
  );
  const text = JSON.stringify({ version, ...modes }).replaceAll("],[", "],\n[");
  writeFileSync(new URL("./nasm.json", import.meta.url), `${text}\n`);
} finally {
  rmSync(folder, { recursive: true });
}
