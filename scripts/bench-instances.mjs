// npm run --silent bench:instances [-- COUNT]: machines of 1 MiB in one process, each of which runs a guest; what they take.
import { readFileSync } from "node:fs";
import { loadImage, Machine, parseFlat } from "../dist/src/index.js";

const count = Number(process.argv[2] ?? 100);
if (!Number.isInteger(count) || count < 1) throw new Error(`COUNT must be a positive integer, not ${process.argv[2]}`);
// mov ecx, 100000; l: add eax, ecx; dec ecx; jnz l; hlt
const program = Uint8Array.of(0xb9, 0xa0, 0x86, 1, 0, 0x01, 0xc8, 0x49, 0x75, 0xfb, 0xf4);
const status = (field) => {
  const text = readFileSync("/proc/self/status", "utf8");
  return Number(new RegExp(`${field}:\\s+(\\d+) kB`).exec(text)?.[1]) / 1024;
};
const machines = [];
const add = () => {
  const machine = new Machine({ memory: 1 << 20 });
  loadImage(machine, parseFlat(program, { mode: "protected", load: 0x8000 }));
  const exit = machine.run();
  if (exit.reason !== "halt") throw new Error(`machine ${machines.length} ended with ${exit.reason}`);
  machines.push(machine);
};
add();
const before = { resident: status("VmRSS"), address: status("VmSize") };
const start = performance.now();
try {
  while (machines.length < count) add();
} catch (error) {
  console.log(`machine ${machines.length + 1} did not fit: ${error.message}`);
}
const made = machines.length - 1;
const each = (value) => (value / Math.max(made, 1)).toFixed(2);
console.log(`${machines.length} machines of 1 MiB of RAM, each has run a guest`);
console.log(
  `a further one: ${each(performance.now() - start)} ms, ${each(status("VmRSS") - before.resident)} MiB resident`,
);
console.log(`and ${each(status("VmSize") - before.address)} MiB of address space`);
