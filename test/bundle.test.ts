// The public entry, bundled for a page and run where no Node module or global exists.
import { fileURLToPath } from "node:url";
import { createContext, runInContext } from "node:vm";
import { build } from "esbuild";
import { describe, expect, it } from "vitest";

const entry = fileURLToPath(new URL("../src/index.ts", import.meta.url));
const PAGE_GLOBALS = { WebAssembly, atob, performance, setTimeout, MessageChannel, AbortController, TextDecoder };

describe("the bundled package", () => {
  it("runs a guest in a page", async () => {
    const bundle = await build({
      entryPoints: [entry],
      bundle: true,
      write: false,
      platform: "browser",
      format: "iife",
      globalName: "wasmVmx",
      logLevel: "silent",
    });
    const page = createContext({ ...PAGE_GLOBALS });
    runInContext(bundle.outputFiles[0]!.text, page);
    const run = `(async () => {
      const { Machine, loadImage, parseFlat } = wasmVmx;
      const machine = new Machine({ memory: 65536 });
      loadImage(machine, parseFlat(Uint8Array.of(0xb8, 0x34, 0x12, 0xf4)));
      const exit = await machine.runAsync({ maxInstructions: 10 });
      return exit.reason + " " + machine.registers.rax;
    })()`;
    expect(await runInContext(run, page)).toBe("halt 4660");
  });
});
