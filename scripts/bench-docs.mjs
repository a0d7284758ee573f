// npm run bench:docs -- [--peers DIR] [--only SECTIONS] [--guests NAMES] [--runs N] [--target SECONDS] [--out FILE]
//
// Measures and writes the tables of docs/benchmarks.md between their marks. Leave the machine alone meanwhile: all
// sections take about an hour. DIR is a folder of other emulators: executables `EMULATOR GUEST.bin LOAD ENTRY` named in
// its emulators.json, guests in build/*.bin with a meta.json, and run.mjs, which times guests x emulators into
// OUT/results.json. The guests of fixtures/bench are added to its own.
import { spawnSync } from "node:child_process";
import { chmodSync, cpSync, existsSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = fileURLToPath(new URL("../", import.meta.url));
// where it is set, Node.js reads certificates at every start: 50 ms that belong to no emulator
delete process.env.NODE_EXTRA_CA_CERTS;
const LOAD = "0x10000";
const ENTRY = "0x10080";
const COLD = ["ckernel", "sieve", "bytecode"];
const COLD_COUNTS = [1e6, 1e7, 1e8, 1e9];
/** Guests of units that are not in the geometric means. */
const UNITS = ["fpu", "sse"];
const SELF_MODIFYING = ["smc", "smc1k"];

const { values } = parseArgs({
  options: {
    peers: { type: "string" },
    only: { type: "string" },
    guests: { type: "string" },
    runs: { type: "string", default: "3" },
    target: { type: "string", default: "0.5" },
    out: { type: "string", default: join(root, "docs/benchmarks.md") },
    help: { type: "boolean" },
  },
});
if (values.help) {
  const head = readFileSync(fileURLToPath(import.meta.url), "utf8").split("\nimport")[0];
  console.log(head.replaceAll(/^\/\/ ?/gm, ""));
  process.exit(0);
}

const say = (text) => process.stderr.write(`${text}\n`);
const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];
const figure = (v) =>
  v === undefined || Number.isNaN(v) ? "-" : v >= 100 ? v.toFixed(0) : v >= 10 ? v.toFixed(1) : v.toFixed(2);
const ratio = (a, b) => (a === undefined || b === undefined ? undefined : a / b);
const mean = (list) => Math.exp(list.reduce((sum, v) => sum + Math.log(v), 0) / list.length);

function markdown(head, rows) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [
    line(head),
    `|---|${head
      .slice(1)
      .map((name) => (name.startsWith("what") ? "---" : "---:"))
      .join("|")}|`,
    ...rows.map(line),
  ].join("\n");
}

function node(args) {
  const { stdout, status, stderr } = spawnSync(process.execPath, args, { cwd: root, encoding: "utf8" });
  if (status !== 0) throw new Error(`${args.join(" ")} failed: ${stderr}`);
  return stdout.trimEnd();
}
const block = (text) => `\`\`\`text\n${text}\n\`\`\``;

/** A copy of the peers' folder with our guests and two more columns. */
class Peers {
  constructor(from) {
    this.folder = mkdtempSync(join(tmpdir(), "wasm-vmx-peers-"));
    for (const part of ["build", "emus", "run.mjs"])
      cpSync(join(from, part), join(this.folder, part), { recursive: true });
    if (existsSync(join(from, "node"))) symlinkSync(resolve(from, "node"), join(this.folder, "node"));
    const json = (path) => JSON.parse(readFileSync(path, "utf8"));
    const theirs = json(join(from, "meta.json"));
    const ours = json(join(root, "fixtures/bench/meta.json"));
    for (const map of [theirs, ours]) delete map._about;
    cpSync(join(root, "fixtures/bench/bin"), join(this.folder, "build"), { recursive: true });
    this.meta = { ...theirs, ...ours };
    for (const one of Object.values(this.meta)) if (!one.wide) one.skip = [...(one.skip ?? []), "qemu64"];
    writeFileSync(join(this.folder, "meta.json"), JSON.stringify(this.meta));
    this.#program("ours-nojit", '#!/bin/bash\nexec "$(dirname "$0")/ours" "$@" --no-jit\n');
    const qemu = readFileSync(join(this.folder, "emus/qemu"), "utf8");
    const wide = qemu
      .replaceAll("qemu-system-i386", "qemu-system-x86_64")
      .replace('"-m", "16"', '"-m", "16", "-cpu", "max"');
    this.#program("qemu64", wide);
    const emulators = {
      ...json(join(from, "emulators.json")),
      "ours-nojit": { cmd: "emus/ours-nojit" },
      qemu64: { cmd: "emus/qemu64" },
    };
    writeFileSync(join(this.folder, "emulators.json"), JSON.stringify(emulators));
    this.emulators = emulators;
  }

  #program(name, text) {
    const path = join(this.folder, "emus", name);
    writeFileSync(path, text);
    chmodSync(path, 0o755);
  }

  env(more = {}) {
    return { ...process.env, PROJECT: root, OUT: this.folder, RUNS: values.runs, TARGET: values.target, ...more };
  }

  /** Million instructions a second by guest and emulator (MB/s where the guest says bytes). */
  measure(emulators, guests) {
    const result = spawnSync(process.execPath, [join(this.folder, "run.mjs"), ...guests], {
      env: this.env({ EMUS: emulators.join(",") }),
      stdio: ["ignore", "ignore", "inherit"],
    });
    if (result.status !== 0) throw new Error(`the peers' run.mjs ended with status ${result.status}`);
    const { results } = JSON.parse(readFileSync(join(this.folder, "results.json"), "utf8"));
    return (guest, emulator) => {
      const cell = results[guest]?.[emulator];
      if (cell?.mismatch) throw new Error(`${emulator} gives a wrong checksum for ${guest}`);
      return this.meta[guest].bytes ? cell?.mb_s : cell?.mips;
    };
  }

  /** Seconds from the start of the process to the end of the guest, for about so many instructions. */
  cold(emulator, guest, instructions) {
    const { ins, base } = this.meta[guest];
    const image = Buffer.from(readFileSync(join(this.folder, "build", `${guest}.bin`)));
    image.writeUInt32LE(Math.max(1, Math.round((instructions - base) / ins)), 0x40);
    const file = join(this.folder, "cold.bin");
    writeFileSync(file, image);
    const once = () => {
      const program = join(this.folder, this.emulators[emulator].cmd);
      const { stdout, stderr } = spawnSync(program, [file, LOAD, ENTRY], { env: this.env(), encoding: "utf8" });
      try {
        const { start_s, seconds } = JSON.parse(stdout.trim().split("\n").pop());
        return start_s + seconds;
      } catch {
        throw new Error(`${emulator} ${guest}: ${stderr.slice(-300) || "no answer"}`);
      }
    };
    return median(Array.from({ length: Number(values.runs) }, once));
  }

  close() {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

let peers;
const withPeers = () => {
  if (!values.peers) return undefined;
  peers ??= new Peers(resolve(values.peers));
  return peers;
};
const guestList = () => values.guests?.split(",") ?? Object.keys(peers.meta);

function peersTable() {
  if (!withPeers()) return undefined;
  const guests = guestList();
  const of = peers.measure(["ours", "v86", "qemu", "qemu64", "native"], guests);
  const cells = guests.map((guest) => ({
    guest,
    ours: of(guest, "ours"),
    v86: of(guest, "v86"),
    qemu: of(guest, "qemu") ?? of(guest, "qemu64"),
    native: of(guest, "native"),
  }));
  const rows = cells.map((c) => [
    c.guest + (peers.meta[c.guest].bytes ? " (MB/s)" : ""),
    peers.meta[c.guest].what,
    ...[c.ours, c.v86, c.qemu, c.native].map(figure),
    ...[c.v86, c.qemu, c.native].map((other) => figure(ratio(c.ours, other))),
  ]);
  const head = ["guest", "what it does", "ours", "v86", "QEMU", "native", "ours / v86", "ours / QEMU", "ours / native"];
  const counted = cells.filter((c) => c.ours !== undefined && !UNITS.includes(c.guest));
  const summary = ["v86", "qemu"].map((peer) => {
    const all = counted.filter((c) => c[peer] !== undefined);
    if (all.length === 0) return `no guest in common with ${peer}`;
    const plain = all.filter((c) => !SELF_MODIFYING.includes(c.guest));
    const worst = all.reduce((a, b) => (a.ours / a[peer] < b.ours / b[peer] ? a : b));
    return (
      `${peer === "qemu" ? "QEMU" : peer}: geometric mean ${figure(mean(all.map((c) => c.ours / c[peer])))} over ${all.length} guests ` +
      `(${figure(mean(plain.map((c) => c.ours / c[peer])))} without ${SELF_MODIFYING.join(" and ")}), ` +
      `least ${figure(worst.ours / worst[peer])} (${worst.guest})`
    );
  });
  return `${markdown(head, rows)}\n\nOurs over ${summary.join("; ")}.`;
}

function interpreterTable() {
  if (!withPeers()) return undefined;
  const guests = guestList().filter((guest) => !UNITS.includes(guest));
  const of = peers.measure(["ours-nojit", "v86-nojit", "bochs"], guests);
  const rows = guests.map((guest) => {
    const [ours, v86, bochs] = ["ours-nojit", "v86-nojit", "bochs"].map((emulator) => of(guest, emulator));
    return [guest, ...[ours, v86, bochs, ratio(ours, v86), ratio(ours, bochs)].map(figure)];
  });
  return markdown(["guest", "ours, --no-jit", "v86, disable_jit", "Bochs", "ours / v86", "ours / Bochs"], rows);
}

function coldTable() {
  if (!withPeers()) return undefined;
  const rows = [];
  for (const guest of COLD.filter((name) => peers.meta[name])) {
    for (const instructions of COLD_COUNTS) {
      const [ours, v86, qemu] = ["ours", "v86", "qemu"].map(
        (emulator) => peers.cold(emulator, guest, instructions) * 1000,
      );
      const count = instructions >= 1e9 ? `${instructions / 1e9} G` : `${instructions / 1e6} M`;
      rows.push([
        guest,
        count,
        ours.toFixed(0),
        v86.toFixed(0),
        qemu.toFixed(0),
        figure(v86 / ours),
        figure(qemu / ours),
      ]);
      say(`cold ${rows.at(-1).join(" ")}`);
    }
  }
  return markdown(["guest", "instructions", "ours, ms", "v86, ms", "QEMU, ms", "v86 / ours", "QEMU / ours"], rows);
}

function packageSize() {
  const { stdout } = spawnSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    cwd: root,
    encoding: "utf8",
  });
  const [{ size, unpackedSize, files }] = JSON.parse(stdout);
  const kb = (bytes) => `${(bytes / 1000).toFixed(0)} KB`;
  return `npm package                            ${kb(size)} packed, ${kb(unpackedSize)} unpacked, ${files.length} files`;
}

/** By the name of their marks, in the order they are measured. */
const SECTIONS = {
  machine: () =>
    `${cpus()[0].model} (${cpus().length} cores), Node ${process.version}, ${new Date().toISOString().slice(0, 10)}.`,
  startup: () => block(`${node(["scripts/bench-startup.mjs"])}\n${packageSize()}`),
  suite: () => block(node(["bin/wasm-vmx.mjs", "bench", "--no-exits", "--no-startup"])),
  exits: () => block(node(["scripts/bench-exits.mjs"])),
  hooks: () => block(node(["scripts/bench-hooks.mjs"])),
  size: () => block(node(["scripts/size.mjs"])),
  interrupt: () => block(node(["scripts/bench-interrupt.mjs"])),
  peers: peersTable,
  interpreter: interpreterTable,
  cold: coldTable,
};

const only = values.only?.split(",") ?? Object.keys(SECTIONS);
for (const name of only) {
  if (!SECTIONS[name]) throw new Error(`no section ${name}: ${Object.keys(SECTIONS).join(", ")}`);
}
try {
  for (const name of only) {
    say(`bench:docs: ${name}`);
    const table = SECTIONS[name]();
    if (table === undefined) {
      say(`bench:docs: ${name} is left as it was: it needs --peers DIR`);
      continue;
    }
    // written at once, so that a run that ends early loses nothing
    const text = readFileSync(values.out, "utf8");
    const marks = new RegExp(`(<!-- bench:${name} -->\n)[\\s\\S]*?(\n<!-- /bench:${name} -->)`);
    if (!marks.test(text))
      throw new Error(`${values.out} has no marks <!-- bench:${name} --> ... <!-- /bench:${name} -->`);
    writeFileSync(
      values.out,
      text.replace(marks, (_, before, after) => `${before}\n${table}\n${after}`),
    );
  }
} finally {
  peers?.close();
}
