// npm run bench:startup: sizes of the core, and the time from import to the first guest instruction, in new processes.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { brotliCompressSync, gzipSync } from "node:zlib";

const RUNS = 15;
const entry = new URL("../dist/src/index.js", import.meta.url).href;
const child = `
  const start = performance.now();
  const { Machine, loadImage, parseFlat } = await import(${JSON.stringify(entry)});
  const imported = performance.now();
  const image = parseFlat(Uint8Array.of(0xf4), { mode: "real" });
  const machine = new Machine();
  loadImage(machine, image);
  machine.run();
  const first = performance.now();
  const rss = process.memoryUsage().rss;
  const more = [];
  const t = performance.now();
  for (let i = 0; i < 10; i++) {
    const m = new Machine();
    loadImage(m, image);
    m.run();
    more.push(m);
  }
  const next = (performance.now() - t) / 10;
  console.log(JSON.stringify([imported - start, first - start, next, (process.memoryUsage().rss - rss) / 10 / 2 ** 20]));
`;
const rows = [];
for (let i = 0; i < RUNS; i++) {
  const { stdout, stderr, status } = spawnSync(process.execPath, ["--input-type=module", "-e", child], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(stderr);
  rows.push(JSON.parse(stdout));
}
const median = (column) => rows.map((r) => r[column]).sort((a, b) => a - b)[RUNS >> 1];
const wasm = readFileSync(new URL("../build/core.wasm", import.meta.url));
const kb = (bytes) => `${(bytes.length / 1000).toFixed(1)} KB`;
console.log(
  `core.wasm                              ${kb(wasm)}, gzip ${kb(gzipSync(wasm, { level: 9 }))}, brotli ${kb(brotliCompressSync(wasm))}`,
);
console.log(`import                                 ${median(0).toFixed(1)} ms`);
console.log(`import to first guest instruction      ${median(1).toFixed(1)} ms`);
console.log(`a further machine, to its first one    ${median(2).toFixed(2)} ms`);
console.log(`resident memory of a further machine   ${median(3).toFixed(2)} MiB (16 MiB of RAM, untouched)`);
console.log(`medians of ${RUNS} processes, ${process.version}`);
