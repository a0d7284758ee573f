// The installed package, used as its users do.
import { readdirSync, renameSync } from "node:fs";
import { join } from "node:path";
import { createContext, runInContext } from "node:vm";
import { build as esbuild } from "esbuild";
import { build as vite } from "vite";
import { describe, expect, it } from "vitest";
import webpack from "webpack";
import { install, read, root, run, SAID, USE, write } from "./installed.ts";

const { project } = install();
const IMPORT = 'import { loadImage, Machine, parseFlat } from "wasm-vmx";';
const node = (file: string) => run(process.execPath, [file], project);

/** A script of a page: no Node module or global but those of browsers. */
async function inPage(script: string): Promise<string> {
  const globals = {
    WebAssembly,
    atob,
    performance,
    setTimeout,
    MessageChannel,
    AbortController,
    TextDecoder,
    TextEncoder,
  };
  return new Promise((resolve) => {
    const page: Record<string, unknown> = { ...globals, answer: resolve };
    page.self = page;
    page.window = page;
    runInContext(script, createContext(page));
  });
}

const PAGE = `${IMPORT}${USE}\nglobalThis.answer(said);`;

describe("Node", () => {
  it("imports it", () => {
    write(project, "esm.mjs", `${IMPORT}${USE}\nconsole.log(said);`);
    expect(node("esm.mjs")).toEqual({ status: 0, stdout: `${SAID}\n`, stderr: "" });
  });

  it("requires it from CommonJS", () => {
    write(
      project,
      "common.cjs",
      `const { loadImage, Machine, parseFlat } = require("wasm-vmx");${USE}\nconsole.log(said);`,
    );
    expect(node("common.cjs")).toEqual({ status: 0, stdout: `${SAID}\n`, stderr: "" });
  });

  it("imports it from CommonJS, where require of an ES module does not exist", () => {
    write(
      project,
      "dynamic.cjs",
      `import("wasm-vmx").then(({ loadImage, Machine, parseFlat }) => {${USE}\nconsole.log(said); });`,
    );
    const old = run(process.execPath, ["--no-experimental-require-module", "dynamic.cjs"], project);
    expect(old).toEqual({ status: 0, stdout: `${SAID}\n`, stderr: "" });
  });

  it("finds every entry, and the WebAssembly modules as files", () => {
    write(
      project,
      "entries.mjs",
      `import { readFileSync } from "node:fs";
      import { fileURLToPath } from "node:url";
      import { Kvm } from "wasm-vmx/kvm";
      import { POLICIES } from "wasm-vmx/policy";
      import { COST_MODELS } from "wasm-vmx/cost";
      import { compare } from "wasm-vmx/lab";
      import { GdbSession } from "wasm-vmx/gdb";
      import { formatTraceEvent } from "wasm-vmx/trace";
      const valid = (name) => WebAssembly.validate(readFileSync(fileURLToPath(import.meta.resolve(name))));
      console.log(new Kvm().getApiVersion(), POLICIES.length > 0, COST_MODELS.length > 0, typeof compare,
        typeof GdbSession, typeof formatTraceEvent, valid("wasm-vmx/core.wasm"), valid("wasm-vmx/generator.wasm"));`,
    );
    // KVM_API_VERSION
    expect(node("entries.mjs")).toMatchObject({
      status: 0,
      stdout: "12 true true function function function true true\n",
    });
  });

  it("has classes with the names they are exported by", () => {
    write(
      project,
      "names.mjs",
      `const entries = ["", "/kvm", "/policy", "/cost", "/lab", "/gdb", "/trace", "/worker"];
      let classes = 0;
      for (const entry of entries) {
        for (const [name, value] of Object.entries(await import("wasm-vmx" + entry))) {
          if (typeof value !== "function" || !/^class/.test(String(value))) continue;
          classes++;
          // names that begin with _ are for the package's other entries
          if (value.name !== name.replace(/^_/, "")) console.log(entry, name, value.name);
        }
      }
      console.log(classes > 30);`,
    );
    expect(node("names.mjs")).toEqual({ status: 0, stdout: "true\n", stderr: "" });
  });

  it("runs it in a worker thread", () => {
    write(
      project,
      "worker.mjs",
      `import { parentPort } from "node:worker_threads";\n${IMPORT}${USE}\nparentPort.postMessage(said);`,
    );
    write(
      project,
      "main.mjs",
      `import { Worker } from "node:worker_threads";
      new Worker(new URL("./worker.mjs", import.meta.url)).on("message", (said) => console.log(said));`,
    );
    expect(node("main.mjs")).toEqual({ status: 0, stdout: `${SAID}\n`, stderr: "" });
  });

  it("has the exports that browsers and bundlers get, the same for all entries", () => {
    write(
      project,
      "same.mjs",
      `import * as here from "wasm-vmx";
      import { MachineTarget } from "wasm-vmx/gdb";
      import * as there from "./node_modules/wasm-vmx/dist/src/web.js";
      console.log(Object.keys(here).length > 90, String(Object.keys(here)) === String(Object.keys(there)));
      // the target looks at the class of the error that the machine throws
      console.log(new MachineTarget(new here.Machine({ memory: 65536 })).readLinear(1, 0x20000n, 4));`,
    );
    expect(node("same.mjs")).toEqual({ status: 0, stdout: "true true\nundefined\n", stderr: "" });
  });

  it("compiles what V8 kept at the build, and does without", () => {
    write(
      project,
      "cached.mjs",
      `import vm from "node:vm";
      const { Script } = vm;
      const scripts = [];
      vm.Script = function (...args) {
        scripts.push(new Script(...args));
        return scripts.at(-1);
      };
      const { loadImage, Machine, parseFlat } = await import("wasm-vmx");${USE}
      await import("wasm-vmx/kvm");
      console.log(said, ...scripts.map((script) => script.cachedDataRejected));`,
    );
    const said = (...flags: string[]) => run(process.execPath, [...flags, "cached.mjs"], project);
    expect(said()).toEqual({ status: 0, stdout: `${SAID} false\n`, stderr: "" });
    // V8 takes only what was compiled with its flags
    expect(said("--no-opt")).toEqual({ status: 0, stdout: `${SAID} true\n`, stderr: "" });
    const folder = join(project, "node_modules/wasm-vmx/dist/src");
    const [cache] = readdirSync(folder).filter((name) => name.endsWith(".cache"));
    renameSync(join(folder, cache!), join(folder, "kept"));
    expect(said()).toEqual({ status: 0, stdout: `${SAID} undefined\n`, stderr: "" });
    renameSync(join(folder, "kept"), join(folder, cache!));
  });

  it("says in an error where in the package it was thrown", () => {
    write(
      project,
      "thrown.mjs",
      `import { readFileSync } from "node:fs";
      import { Machine } from "wasm-vmx";
      try {
        new Machine({ memory: 5 });
      } catch (error) {
        const [, file, line, column] = /(file:.*web\\.js):(\\d+):(\\d+)/.exec(error.stack);
        console.log(readFileSync(new URL(file), "utf8").split("\\n")[line - 1].slice(column - 1, +column + 3));
      }`,
    );
    expect(node("thrown.mjs")).toEqual({ status: 0, stdout: "new \n", stderr: "" });
  });

  it("has the command", () => {
    const { status, stdout } = run(join(project, "node_modules/.bin/wasm-vmx"), ["--version"], project);
    expect({ status, stdout }).toEqual({ status: 0, stdout: "0.1.0\n" });
    const demo = run(join(project, "node_modules/.bin/wasm-vmx"), ["demo"], project);
    expect(demo.status).toBe(0);
  });
});

describe("TypeScript, strict, with every declaration checked", () => {
  it.each([
    ["nodenext", "nodenext"],
    ["esnext", "bundler"],
  ])("module %s, moduleResolution %s", (module, moduleResolution) => {
    const folder = `ts-${moduleResolution}`;
    write(
      project,
      `${folder}/use.ts`,
      `${IMPORT}
      import type { Exit } from "wasm-vmx";
      import { Kvm, type KvmExit } from "wasm-vmx/kvm";
      import { type Policy, POLICIES } from "wasm-vmx/policy";
      import { type CostModel, COST_MODELS } from "wasm-vmx/cost";
      import { compare, type CompareReport } from "wasm-vmx/lab";
      import { GdbSession, type GdbTarget, MachineTarget } from "wasm-vmx/gdb";
      import { formatTraceEvent, type TraceEvent } from "wasm-vmx/trace";
      const machine = new Machine({ memory: 65536 });
      loadImage(machine, parseFlat(Uint8Array.of(0xf4)));
      const exit: Exit = machine.run();
      const rax: bigint = machine.registers.rax;
      if (exit.reason === "watchpoint") { const size: number = exit.size; void size; }
      const target: GdbTarget = new MachineTarget(machine);
      export const session = new GdbSession(target, (bytes: Uint8Array) => void bytes);
      export const policies: readonly Policy[] = POLICIES;
      export const models: readonly CostModel[] = COST_MODELS;
      export const kvm = new Kvm();
      export type Reason = KvmExit["reason"];
      export type Report = CompareReport;
      export type Event = TraceEvent;
      export { compare, formatTraceEvent, rax };
      // @ts-expect-error there is no such register
      void machine.registers.raxx;`,
    );
    const compilerOptions = {
      ...{ module, moduleResolution, target: "es2022", lib: ["es2022", "dom"], types: [], strict: true, noEmit: true },
      ...{ skipLibCheck: false, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true },
    };
    write(project, `${folder}/tsconfig.json`, JSON.stringify({ compilerOptions, include: ["use.ts"] }));
    const tsc = join(root, "node_modules/typescript/bin/tsc");
    expect(run(process.execPath, [tsc, "-p", folder], project)).toEqual({ status: 0, stdout: "", stderr: "" });
  });
});

describe("bundlers", () => {
  it("esbuild", async () => {
    const entry = write(project, "esbuild.js", PAGE);
    const { outputFiles } = await esbuild({ entryPoints: [entry], bundle: true, write: false, logLevel: "silent" });
    expect(await inPage(outputFiles[0]!.text)).toBe(SAID);
  });

  it("esbuild for Node", async () => {
    const entry = write(
      project,
      "server.js",
      `${IMPORT}import { Kvm } from "wasm-vmx/kvm";${USE}\nconsole.log(said, typeof Kvm);`,
    );
    const outfile = join(project, "elsewhere/server.mjs");
    await esbuild({ entryPoints: [entry], bundle: true, platform: "node", format: "esm", outfile, logLevel: "silent" });
    expect(node("elsewhere/server.mjs")).toEqual({ status: 0, stdout: `${SAID} function\n`, stderr: "" });
    // the file for Node says what to do when a bundler takes it
    const conditions = ["node"];
    await esbuild({ entryPoints: [entry], bundle: true, platform: "node", conditions, format: "esm", outfile });
    expect(node("elsewhere/server.mjs").stderr).toContain('with a bundler use the condition "module"');
  });

  it("Vite", async () => {
    write(project, "vite/index.html", '<script type="module" src="./main.js"></script>');
    write(project, "vite/main.js", PAGE);
    await vite({
      root: join(project, "vite"),
      logLevel: "error",
      build: {
        modulePreload: false,
        rolldownOptions: { output: { entryFileNames: "main.js", format: "iife" } },
      },
    });
    expect(await inPage(read(project, "vite/dist/main.js"))).toBe(SAID);
  });

  it("webpack", async () => {
    const entry = write(project, "webpack.js", PAGE);
    const stats = await new Promise<webpack.Stats>((resolve, reject) => {
      webpack(
        {
          mode: "production",
          context: project,
          entry,
          output: { path: join(project, "webpack"), filename: "main.js" },
        },
        (error, found) => (error || !found ? reject(error) : resolve(found)),
      );
    });
    expect(stats.toJson({ all: false, errors: true, warnings: false }).errors).toEqual([]);
    expect(await inPage(read(project, "webpack/main.js"))).toBe(SAID);
  });

  it("a page's worker", async () => {
    const entry = write(
      project,
      "page-worker.js",
      `${IMPORT}self.onmessage = () => {${USE}\nself.postMessage(said); };`,
    );
    const { outputFiles } = await esbuild({ entryPoints: [entry], bundle: true, write: false, logLevel: "silent" });
    const worker = `globalThis.postMessage = globalThis.answer;\n${outputFiles[0]!.text}\nself.onmessage({ data: 0 });`;
    expect(await inPage(worker)).toBe(SAID);
  });
});
