// npm run --silent bench:instances [-- COUNT [MIB]]: machines of 1 MiB in one process, each of which runs a guest; what they
// take, and forks of one of 16 MiB. MIB: under a limit on address space (ulimit -v), with the flag of Node.js for such.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

const [count, limit] = [process.argv[2] ?? 100, process.argv[3] ?? 0].map(Number);
if (!Number.isInteger(count) || count < 1 || !Number.isInteger(limit) || limit < 0) {
  throw new Error(`COUNT and MIB must be positive integers, not ${process.argv.slice(2).join(" ")}`);
}
if (limit > 0) {
  const command = `ulimit -v ${limit * 1024} && exec "$0" --disable-wasm-trap-handler "$1" "$2"`;
  const args = ["-c", command, process.execPath, fileURLToPath(import.meta.url), String(count)];
  const { status } = spawnSync("sh", args, { stdio: "inherit" });
  process.exit(status ?? 1);
}

const { loadImage, Machine, parseFlat } = await import("../dist/src/index.js");
// mov ecx, 100000; l: add eax, ecx; dec ecx; jnz l; hlt
const program = Uint8Array.of(0xb9, 0xa0, 0x86, 1, 0, 0x01, 0xc8, 0x49, 0x75, 0xfb, 0xf4);
const image = parseFlat(program, { mode: "protected", load: 0x8000 });
const status = (field) => {
  const text = readFileSync("/proc/self/status", "utf8");
  return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(text)?.[1]) / 1024;
};
const machines = [];
const add = () => {
  const machine = new Machine({ memory: 1 << 20, extraMemory: 0 });
  loadImage(machine, image);
  const exit = machine.run();
  if (exit.reason !== "halt") throw new Error(`machine ${machines.length} ended with ${exit.reason}`);
  machines.push(machine);
};
add();
const before = { resident: status("VmRSS"), address: status("VmSize") };
const start = performance.now();
let refused;
try {
  while (machines.length < count) add();
} catch (error) {
  refused = error;
}
const made = machines.length - 1;
const each = (value) => (value / Math.max(made, 1)).toFixed(2);
console.log(`${machines.length} machines of 1 MiB of RAM, each has run a guest`);
console.log(
  `a further one: ${each(performance.now() - start)} ms, ${each(status("VmRSS") - before.resident)} MiB resident`,
);
console.log(
  `and ${each(status("VmSize") - before.address)} MiB of address space; all: ${status("VmSize").toFixed(0)} MiB`,
);
if (refused) {
  console.log(`machine ${machines.length + 1} did not fit: ${refused.message}`);
  process.exit(1);
}

const ROUNDS = 200;
const spread = (body) => {
  const times = Array.from({ length: ROUNDS }, () => {
    const begin = performance.now();
    body();
    return performance.now() - begin;
  });
  const mean = times.reduce((sum, time) => sum + time, 0) / ROUNDS;
  const median = times.sort((a, b) => a - b)[ROUNDS >> 1];
  return `${median.toFixed(2)} ms (${mean.toFixed(2)} with what the engine collects between)`;
};
const origin = new Machine({ memory: 16 << 20, extraMemory: 0 });
loadImage(origin, image);
origin.run({ maxInstructions: 1000 });
const used = (machine) => void machine.run({ maxInstructions: 1000 });
const kept = [];
console.log("one of 16 MiB, and 1000 instructions of the guest after it:");
console.log(
  `fork(), run, dispose()         ${spread(() => {
    const fork = origin.fork();
    used(fork);
    fork.dispose();
  })}`,
);
console.log(
  `fork(), run; all are kept      ${spread(() => {
    kept.push(origin.fork());
    used(kept.at(-1));
  })}`,
);
const into = origin.fork();
console.log(`fork({ into }), run            ${spread(() => used(origin.fork({ into })))}`);
