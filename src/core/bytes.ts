// The processor and its code generator as bytes, inside the package. Node.js gets them from files (scripts/node-entry.mjs).
import { coreBase64 } from "./coreBytes.generated.ts";
import { generatorBase64 } from "./generatorBytes.generated.ts";

export function wasmBytes(name: "core" | "generator"): Uint8Array<ArrayBuffer> {
  return decodeBase64(name === "core" ? coreBase64 : generatorBase64);
}

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
