// The only file that compiles and instantiates the processor.
import { instantiateSync } from "@assemblyscript/loader";
import { coreBase64 } from "./coreBytes.generated.ts";
import { WasmVmxError } from "./errors.ts";
import type { CoreExports, CoreImports } from "./exports.ts";
import { Linker } from "./jit.ts";

let compiled: WebAssembly.Module | undefined;

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  // the quick ways, where there is one
  const { Buffer: node } = globalThis as {
    Buffer?: { from(text: string, encoding: "base64"): Uint8Array<ArrayBuffer> };
  };
  if (node) return node.from(text, "base64");
  const page = Uint8Array as { fromBase64?: (text: string) => Uint8Array<ArrayBuffer> };
  if (page.fromBase64) return page.fromBase64(text);
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** The compiled core: once a process, shared by all instances. */
export function loadCore(): WebAssembly.Module {
  try {
    compiled ??= new WebAssembly.Module(decodeBase64(coreBase64));
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
 * elsewhere than on threads where engines compile only small modules synchronously.
 */
export async function compileCore(): Promise<void> {
  compiled ??= await WebAssembly.compile(decodeBase64(coreBase64));
}

/** A new processor with a memory of its own. */
export function instantiateCore(imports: CoreImports): { exports: CoreExports; linker: Linker } {
  const linker = new Linker();
  // asc names the import module after the file that declares the functions
  const instance = instantiateSync(loadCore(), { imports: { ...imports, jitCompile: linker.jitCompile } });
  const exports = instance.exports as unknown as CoreExports;
  linker.attach(exports);
  return { exports, linker };
}
