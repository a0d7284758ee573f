// Start-up: sizes, import to first guest instruction, further machines, each in new processes.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { brotliCompressSync, gzipSync } from "node:zlib";

/** A WebAssembly module of the package, in bytes: as it is, and as a server sends it. */
export interface WasmSize {
  readonly name: string;
  readonly raw: number;
  readonly gzip: number;
  readonly brotli: number;
}

export interface Startup {
  readonly modules: readonly WasmSize[];
  readonly importMs: number;
  /** Import of an empty module: what is Node's own. */
  readonly emptyImportMs: number;
  /** From before the import to after the first instruction. */
  readonly firstInstructionMs: number;
  /** The same two of web.js, the module of browsers and bundlers, which V8 parses as it does where the package has no code cache for it. */
  readonly parsedImportMs: number;
  readonly parsedFirstInstructionMs: number;
  /** A further machine in the same process, from its making to its first instruction. */
  readonly nextMachineMs: number;
  /** The same without the garbage collections that fell into it: engines count the memory of a machine as garbage to come. */
  readonly nextMachineWithoutGcMs: number;
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
  const { PerformanceObserver } = await import("node:perf_hooks");
  const collections = [];
  new PerformanceObserver((list) => collections.push(...list.getEntries())).observe({ entryTypes: ["gc"] });
  const spans = [];
  const rss = process.memoryUsage().rss;
  for (let i = 0; i < 10; i++) {
    const begin = performance.now();
    one();
    spans.push([begin, performance.now()]);
  }
  const grown = (process.memoryUsage().rss - rss) / 10 / 2 ** 20;
  await new Promise((resolve) => setTimeout(resolve, 20));
  const median = (values) => values.sort((a, b) => a - b)[5];
  const without = ([begin, end]) =>
    end - begin -
    collections.reduce((sum, { startTime, duration }) => sum + (startTime >= begin && startTime < end ? duration : 0), 0);
  const [whole, own] = [median(spans.map(([begin, end]) => end - begin)), median(spans.map(without))];
  console.log(JSON.stringify([imported - start, first - start, whole, own, grown]));
`;

const emptyChild = (entry: string): string => `
  const start = performance.now();
  await import(${JSON.stringify(entry)});
  console.log(JSON.stringify([performance.now() - start]));
`;

function emptyModule(): { readonly folder: string; readonly url: string } {
  const folder = mkdtempSync(join(tmpdir(), "wasm-vmx-"));
  const file = join(folder, "empty.mjs");
  writeFileSync(file, "");
  return { folder, url: pathToFileURL(file).href };
}

function inNewProcess(code: string): number[] {
  const { stdout, stderr, status } = spawnSync(process.execPath, ["--input-type=module", "-e", code], {
    encoding: "utf8",
  });
  if (status !== 0) throw new Error(`a process that was to be timed failed: ${stderr}`);
  return JSON.parse(stdout) as number[];
}

/** The core, and the generator that a machine asks for when its first block is hot. */
function wasmSizes(root: URL): WasmSize[] {
  return ["core.wasm", "generator.wasm"].map((name) => {
    const wasm = readFileSync(new URL(`build/${name}`, root));
    return {
      name,
      raw: wasm.length,
      gzip: gzipSync(wasm, { level: 9 }).length,
      brotli: brotliCompressSync(wasm).length,
    };
  });
}

/** Medians over new processes. `root`: the package's folder. */
export function measureStartup(root: URL, processes = 15): Startup {
  const [entry, parsed] = ["index.js", "web.js"].map((name) => child(new URL(`dist/src/${name}`, root).href));
  const empty = emptyModule();
  const rows: number[][] = [];
  try {
    for (let i = 0; i < processes; i++) {
      rows.push([...inNewProcess(entry!), ...inNewProcess(emptyChild(empty.url)), ...inNewProcess(parsed!)]);
    }
  } finally {
    rmSync(empty.folder, { recursive: true, force: true });
  }
  const column = (i: number) => rows.map((row) => row[i]!).sort((a, b) => a - b)[processes >> 1]!;
  return {
    modules: wasmSizes(root),
    importMs: column(0),
    firstInstructionMs: column(1),
    nextMachineMs: column(2),
    nextMachineWithoutGcMs: column(3),
    nextMachineMiB: column(4),
    emptyImportMs: column(5),
    parsedImportMs: column(6),
    parsedFirstInstructionMs: column(7),
    processes,
  };
}

export function startupLines(s: Startup): string[] {
  const kb = (bytes: number) => `${(bytes / 1000).toFixed(1)} KB`;
  const sum = (what: "raw" | "gzip" | "brotli") => s.modules.reduce((total, module) => total + module[what], 0);
  const both = { name: "both", raw: sum("raw"), gzip: sum("gzip"), brotli: sum("brotli") };
  return [
    ...[...s.modules, both].map(
      ({ name, raw, gzip, brotli }) => `${name.padEnd(39)}${kb(raw)}, gzip ${kb(gzip)}, brotli ${kb(brotli)}`,
    ),
    `import                                 ${s.importMs.toFixed(1)} ms (of an empty module: ${s.emptyImportMs.toFixed(1)} ms)`,
    `import to first guest instruction      ${s.firstInstructionMs.toFixed(1)} ms`,
    `both without V8's code cache           ${s.parsedImportMs.toFixed(1)} ms, ${s.parsedFirstInstructionMs.toFixed(1)} ms`,
    `a further machine, to its first one    ${s.nextMachineMs.toFixed(2)} ms (${s.nextMachineWithoutGcMs.toFixed(2)} ms without garbage collections)`,
    `resident memory of a further machine   ${s.nextMachineMiB.toFixed(2)} MiB (16 MiB of RAM, untouched)`,
    `medians of ${s.processes} processes, ${process.version}`,
  ];
}
