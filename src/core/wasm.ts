// The only file that knows the AssemblyScript loader.
import { instantiateSync } from "@assemblyscript/loader";
import { coreBase64 } from "./coreBytes.generated.ts";
import type { CoreExports, CoreImports } from "./exports.ts";
import { linkGenerated } from "./jit.ts";

let compiled: WebAssembly.Module | undefined;

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  const binary = atob(text);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < binary.length; i++) bytes[i] = binary.charCodeAt(i);
  return bytes;
}

/** The compiled core: once a process, shared by all instances. */
export function loadCore(): WebAssembly.Module {
  compiled ??= new WebAssembly.Module(decodeBase64(coreBase64));
  return compiled;
}

/** A new processor with a memory of its own. */
export function instantiateCore(imports: CoreImports): CoreExports {
  // asc names the import module after the file that declares the functions
  let core: CoreExports | undefined;
  const jitCompile = linkGenerated(() => core);
  const { exports } = instantiateSync(loadCore(), { imports: { ...imports, jitCompile } });
  core = exports as unknown as CoreExports;
  return core;
}
