// What npm pack puts into the tarball, and what publint and attw say about it.
import { existsSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { publint } from "publint";
import { formatMessage } from "publint/utils";
import { describe, expect, it } from "vitest";
import { sizes } from "../../scripts/size.mjs";
import { install, root, run } from "./installed.ts";

const packed = install();
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const paths = packed.files.map(({ path }) => path);

/** Everything that may be there. */
const ALLOWED = [
  /^(package\.json|README\.md|LICENSE|CHANGELOG\.md|THIRD-PARTY-NOTICES\.md)$/,
  /^bin\/wasm-vmx\.mjs$/,
  /^build\/(core|generator)\.wasm$/,
  /^dist\/.*\.(js|d\.ts)$/,
  /^dist\/src\/web\.[^/]+\.cache$/,
  /^fixtures\/(guests|lab)\/bin\/[^/]+\.(bin|elf)$/,
  /^fixtures\/lab\/src\/calibrate\.c$/,
  /^fixtures\/bench\/(bin\/[^/]+\.bin|meta\.json)$/,
];

const WASM = ["build/core.wasm", "build/generator.wasm"];

describe("the tarball", () => {
  it("holds nothing but what is used", () => {
    expect(paths.filter((path) => !ALLOWED.some((pattern) => pattern.test(path)))).toEqual([]);
    for (const path of ["LICENSE", "README.md", "CHANGELOG.md", "THIRD-PARTY-NOTICES.md", ...WASM]) {
      expect(paths).toContain(path);
    }
    expect(paths.filter((path) => /(^|\/)(test|scripts|assembly)\/(?!abi)/.test(path))).toEqual([]);
  });

  it("is small", () => {
    // a third of this is the processor and the generator, once as files and once inside the library
    expect(packed.size).toBeLessThan(900_000);
  });

  it("has a core without global variables, for which V8 would allocate an ArrayBuffer an instance", () => {
    const bytes = readFileSync(join(packed.project, "node_modules/wasm-vmx/build/core.wasm"));
    let at = 8;
    const unsigned = (): number => {
      let value = 0;
      for (let shift = 0; ; shift += 7) {
        const byte = bytes[at++]!;
        value += (byte & 0x7f) * 2 ** shift;
        if (byte < 0x80) return value;
      }
    };
    const sections: number[] = [];
    while (at < bytes.length) {
      sections.push(bytes[at++]!);
      const size = unsigned();
      at += size;
    }
    // types, imports, functions, table, exports, code, data; 6 would be the globals
    expect(sections).toEqual(expect.arrayContaining([1, 2, 3, 4, 7, 10, 11]));
    expect(sections).not.toContain(6);
  });

  it("needs nothing else, and says so", () => {
    expect(manifest.dependencies).toBeUndefined();
    expect(manifest.sideEffects).toBe(false);
  });

  it("has every file that its exports name, types first", () => {
    for (const [name, target] of Object.entries<string | Record<string, string>>(manifest.exports)) {
      const files = typeof target === "string" ? [target] : Object.values(target);
      for (const file of files) expect(paths, name).toContain(file.replace("./", ""));
      if (typeof target !== "string") expect(Object.keys(target)[0]).toBe("types");
    }
  });

  it("has the version of the changelog's newest entry", () => {
    const changelog = readFileSync(join(root, "CHANGELOG.md"), "utf8");
    expect(/^## (\S+)/m.exec(changelog)?.[1]).toBe(manifest.version);
  });

  it("has no object of all exports of a module in its first entry, which every import would make", () => {
    const text = readFileSync(join(packed.project, "node_modules/wasm-vmx/dist/src/web.js"), "utf8");
    // esbuild's name for one; it comes where a module is imported as * and looked through
    expect(text.match(/\b\w+_exports\b/g) ?? []).toEqual([]);
  });

  it("reaches no node:* module from any of its entries for browsers", () => {
    const installed = join(packed.project, "node_modules/wasm-vmx");
    const seen = new Set<string>();
    const node: string[] = [];
    const others: string[] = [];
    const visit = (file: string): void => {
      if (seen.has(file)) return;
      seen.add(file);
      const text = readFileSync(file, "utf8");
      for (const [, name] of text.matchAll(/(?:\bfrom|\bimport\(?)\s*["']([^"'\n]+)["']/g)) {
        if (name!.startsWith("node:")) node.push(`${file}: ${name}`);
        else if (name!.startsWith(".")) visit(join(dirname(file), name!));
        else if (name!.startsWith("#")) visit(join(installed, manifest.imports[name!].default));
        else others.push(`${file}: ${name}`);
      }
    };
    for (const target of Object.values<string | { default: string }>(manifest.exports)) {
      if (typeof target !== "string") visit(join(installed, target.default));
    }
    expect(seen.size).toBeGreaterThan(5);
    expect(node).toEqual([]);
    expect(others).toEqual([]);
  });
});

describe("checkers", () => {
  it("publint finds nothing", async () => {
    const { messages } = await publint({ pkgDir: join(packed.project, "node_modules/wasm-vmx"), strict: true });
    expect(messages.map((message) => formatMessage(message, manifest))).toEqual([]);
  });

  it("attw finds nothing, with the resolutions that know exports and ESM", () => {
    const attw = join(root, "node_modules/@arethetypeswrong/cli/dist/index.js");
    expect(existsSync(attw)).toBe(true);
    const args = [attw, packed.file, "--profile", "esm-only", "--exclude-entrypoints", "core.wasm", "generator.wasm"];
    const { status, stdout, stderr } = run(process.execPath, [...args, "--format", "ascii"], packed.project);
    expect({ status, text: status === 0 ? "" : stdout + stderr }).toEqual({ status: 0, text: "" });
  });
});

describe("what a bundler keeps", () => {
  it("leaves the processor out of what does not need it", async () => {
    const found = Object.fromEntries((await sizes()).map(({ name, minified }) => [name, minified]));
    const core = packed.files.find(({ path }) => path === "build/core.wasm")!.size;
    expect(found["the disassembler"]).toBeLessThan(core);
    expect(found["wasm-vmx/gdb (GdbSession)"]).toBeLessThan(core);
    expect(found["wasm-vmx/policy"]).toBeLessThan(core);
    expect(found["a processor (Machine)"]).toBeGreaterThan(core);
  });
});
