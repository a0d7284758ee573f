// The only file that makes processors.
import { FLAGS_REACH, FRAME_META, FRAME_META_BYTES, MEMORY_MIN, PAGE } from "../../assembly/abi/layout.ts";
import { wasmBytes } from "./bytes.ts";
import type { Seat } from "./callbacks.ts";
import { AddressSpaceError, WasmVmxError } from "./errors.ts";
import type { CoreExports, CoreImports } from "./exports.ts";
import { type GeneratorModule, Linker } from "./jit.ts";

const WASM_PAGE = 0x10000;
/** The last page cannot be used. */
const WASM_PAGES_MAX = 0xffff;

let compiled: WebAssembly.Module | undefined;
/** Compiled when the first processor of the process needs it (jit.ts). */
const generator: GeneratorModule = { bytes: () => wasmBytes("generator") };

/** The compiled core: once a process, shared by all instances. */
export function loadCore(): WebAssembly.Module {
  try {
    compiled ??= new WebAssembly.Module(wasmBytes("core"));
  } catch (error) {
    const advice =
      error instanceof RangeError
        ? "this thread compiles small modules only: await compileCore() first, or use a Worker"
        : "a page's Content-Security-Policy must allow 'wasm-unsafe-eval' in script-src";
    throw new WasmVmxError(`WebAssembly refuses the processor: ${advice} (${error})`, { cause: error });
  }
  return compiled;
}

/**
 * Compiles the processor ahead, without holding the calling thread. Machines made afterwards start at once; not needed
 * elsewhere than on threads where engines compile only small modules synchronously. The generator of code is compiled when it
 * is needed, on such threads in the background.
 */
export async function compileCore(): Promise<void> {
  compiled ??= await WebAssembly.compile(wasmBytes("core"));
}

/** Bytes of linear memory that so many frames take, with the tables and the metadata of `most` frames. */
export function linearBytes(frames: number, most: number): number {
  // frames start at a page, and may lie where generated code reads flags of addresses that are none
  return FRAME_META + most * FRAME_META_BYTES + Math.max(PAGE + frames * PAGE, FLAGS_REACH);
}

/**
 * The memory of one processor. With a maximum it takes no more address space than it can use, where the engine does not
 * reserve more than that for all memories alike.
 */
function newMemory(frames: number, maxFrames: number): WebAssembly.Memory {
  const pages = (held: number) => Math.min(Math.ceil(linearBytes(held, maxFrames) / WASM_PAGE), WASM_PAGES_MAX);
  const initial = Math.max(pages(frames), MEMORY_MIN);
  const maximum = Math.max(pages(maxFrames), initial);
  try {
    return new WebAssembly.Memory({ initial, maximum });
  } catch (error) {
    const bytes = maximum * WASM_PAGE;
    throw new AddressSpaceError(
      `there is no address space for another processor: it needs ${bytes} bytes, and the engine may reserve up to 10 GiB ` +
        "around them. Where address space is limited (ulimit -v), start Node.js with --disable-wasm-trap-handler, which " +
        "then reserves those bytes only; make machines with a smaller memory and extraMemory; or dispose() of machines that are " +
        `not needed any more (${error})`,
      bytes,
      { cause: error },
    );
  }
}

/** What a core leaves to another: the instance, with its memory, its RAM and ROM and the code made from them. */
export interface Processor {
  readonly exports: CoreExports;
  readonly linker: Linker;
  readonly seat: Seat;
}

/** A new processor with a memory of its own, with room for `frames` at once and for `maxFrames` when it grows. */
export function instantiateCore(
  imports: CoreImports,
  frames: number,
  maxFrames: number,
): { exports: CoreExports; linker: Linker } {
  const linker = new Linker(generator);
  const memory = newMemory(frames, maxFrames);
  // asc names the import module after the file that declares the functions; the loader would make a wrapper of each export, a sixth
  // of a further machine
  const instance = new WebAssembly.Instance(loadCore(), {
    env: { memory },
    imports: { ...imports, jitGenerate: linker.jitGenerate },
  });
  const exports = instance.exports as unknown as CoreExports;
  linker.attach(exports);
  return { exports, linker };
}
