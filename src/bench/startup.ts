// Start-up: sizes, import to first guest instruction, further machines, each in new processes.
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { brotliCompressSync, gzipSync } from "node:zlib";

export interface Startup {
  readonly wasmBytes: number;
  readonly wasmGzip: number;
  readonly wasmBrotli: number;
  readonly importMs: number;
  /** From before the import to after the first instruction. */
  readonly firstInstructionMs: number;
  /** A further machine in the same process, from its making to its first instruction. */
  readonly nextMachineMs: number;
  /** Resident memory that a further machine adds, its untouched RAM of 16 MiB aside. */
  readonly nextMachineMiB: number;
  readonly processes: number;
}

const child = (entry: string): string => `
  const start = performance.now();
  const { Machine, loadImage, parseFlat } = await import(${JSON.stringify(entry)});
  const imported = performance.now();
  const image = parseFlat(Uint8Array.of(0xf4), { mode: "real" });
  const kept = [];
  const one = () => {
    const machine = new Machine();
    loadImage(machine, image);
    machine.run();
    kept.push(machine);
  };
  one();
  const first = performance.now();
  const times = [];
  const rss = process.memoryUsage().rss;
  for (let i = 0; i < 10; i++) {
    const begin = performance.now();
    one();
    times.push(performance.now() - begin);
  }
  const grown = (process.memoryUsage().rss - rss) / 10 / 2 ** 20;
  console.log(JSON.stringify([imported - start, first - start, times.sort((a, b) => a - b)[5], grown]));
`;

/** Medians over new processes. `root`: the package's folder. */
export function measureStartup(root: URL, processes = 15): Startup {
  const entry = new URL("dist/src/index.js", root).href;
  const rows = Array.from({ length: processes }, () => {
    const { stdout, stderr, status } = spawnSync(process.execPath, ["--input-type=module", "-e", child(entry)], {
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(`a process that was to be timed failed: ${stderr}`);
    return JSON.parse(stdout) as number[];
  });
  const column = (i: number) => rows.map((row) => row[i]!).sort((a, b) => a - b)[processes >> 1]!;
  const wasm = readFileSync(new URL("build/core.wasm", root));
  return {
    wasmBytes: wasm.length,
    wasmGzip: gzipSync(wasm, { level: 9 }).length,
    wasmBrotli: brotliCompressSync(wasm).length,
    importMs: column(0),
    firstInstructionMs: column(1),
    nextMachineMs: column(2),
    nextMachineMiB: column(3),
    processes,
  };
}

export function startupLines(s: Startup): string[] {
  const kb = (bytes: number) => `${(bytes / 1000).toFixed(1)} KB`;
  return [
    `core.wasm                              ${kb(s.wasmBytes)}, gzip ${kb(s.wasmGzip)}, brotli ${kb(s.wasmBrotli)}`,
    `import                                 ${s.importMs.toFixed(1)} ms`,
    `import to first guest instruction      ${s.firstInstructionMs.toFixed(1)} ms`,
    `a further machine, to its first one    ${s.nextMachineMs.toFixed(2)} ms`,
    `resident memory of a further machine   ${s.nextMachineMiB.toFixed(2)} MiB (16 MiB of RAM, untouched)`,
    `medians of ${s.processes} processes, ${process.version}`,
  ];
}
