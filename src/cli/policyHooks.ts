// Hooks for the import of a policy file: "wasm-vmx/..." is this package wherever the file lies, and TypeScript loads on a
// Node.js that does not strip types itself.
import { readFile } from "node:fs/promises";
import type { LoadHook, ResolveHook } from "node:module";
import { fileURLToPath } from "node:url";

const OWN = /^wasm-vmx(\/|$)/;
const TYPESCRIPT = /\.[mc]?ts$/;
const native = (process.features as { readonly typescript?: unknown }).typescript;

export const resolve: ResolveHook = async (specifier, context, nextResolve) => {
  try {
    return await nextResolve(specifier, context);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND" || !OWN.test(specifier)) throw error;
    return nextResolve(specifier, { ...context, parentURL: import.meta.url });
  }
};

export const load: LoadHook = async (url, context, nextLoad) => {
  if (native || !url.startsWith("file:") || !TYPESCRIPT.test(new URL(url).pathname)) return nextLoad(url, context);
  const path = fileURLToPath(url);
  let ts: typeof import("typescript");
  try {
    ts = (await import("typescript")).default;
  } catch {
    throw new Error(
      `this Node.js (${process.version}) does not run TypeScript and there is no package typescript; use 22.18 or newer, or JavaScript`,
    );
  }
  const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ESNext };
  const { outputText, diagnostics = [] } = ts.transpileModule(await readFile(path, "utf8"), {
    compilerOptions,
    fileName: path,
    reportDiagnostics: true,
  });
  const [first] = diagnostics;
  if (first !== undefined) {
    const line = first.file?.getLineAndCharacterOfPosition(first.start ?? 0).line ?? 0;
    throw new Error(`${path}:${line + 1}: ${ts.flattenDiagnosticMessageText(first.messageText, " ")}`);
  }
  return { format: "module", source: outputText, shortCircuit: true };
};
