// Every code block of the README, CONTRIBUTING.md, docs/ and the guides is executed.
import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { inspect } from "node:util";
import { afterAll, beforeAll, describe, expect, it, vi } from "vitest";
import { root } from "../cli/command.ts";
import { type Block, blocksOf, commandsOf, missingLines, promised, wordsOf } from "./markdown.ts";

const files = [
  join(root, "README.md"),
  join(root, "CONTRIBUTING.md"),
  ...["docs", "docs/guides"].flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith(".md"))
      .map((name) => join(root, folder, name)),
  ),
];
const { scripts, exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
  scripts: Record<string, string>;
  exports: Record<string, { types?: string }>;
};
/** npm itself, and scripts that CI or a test of their own runs. */
const NPM = /^npm (?:run (?:--silent )?(?<name>[\w:-]+)|(?<short>start|test|ci|pack)|install .*)/;
const hasGdb = spawnSync("gdb", ["--version"]).status === 0;
if (!hasGdb) console.warn("GDB's commands in the guides are skipped: gdb is not installed");

let work: string;
beforeAll(() => {
  work = mkdtempSync(join(tmpdir(), "wasm-vmx-docs-"));
  symlinkSync(join(root, "fixtures"), join(work, "fixtures"));
  mkdirSync(join(root, "build/docs"), { recursive: true });
});
afterAll(() => rmSync(work, { recursive: true, force: true }));

/** The package's own names lead to its sources. */
function toSources(code: string): string {
  return code.replace(/(from|import\()\s*"wasm-vmx(\/[\w.]+)?"/g, (_all, keyword: string, path = "") => {
    const target = exports[path === "" ? "." : `.${path}`]?.types;
    if (target === undefined) throw new Error(`the package exports no wasm-vmx${path}`);
    const source = target.replace("./dist/", "").replace(/\.d\.ts$/, ".ts");
    return `${keyword} ${JSON.stringify(join(root, source))}`;
  });
}

const shown = (value: unknown): string => {
  if (typeof value === "bigint") return `${value}n`;
  return typeof value === "string" ? value : inspect(value, { breakLength: Number.POSITIVE_INFINITY, compact: 10 });
};

async function runScript(block: Block, name: string): Promise<void> {
  const file = join(root, "build/docs", name);
  writeFileSync(file, `${toSources(block.text)}\nexport {};\n`);
  const printed: string[] = [];
  const log = vi.spyOn(console, "log").mockImplementation((...values: unknown[]) => {
    printed.push(...values.map(shown).join(" ").split("\n"));
  });
  try {
    await import(pathToFileURL(file).href);
  } finally {
    log.mockRestore();
  }
  const wanted = promised(block.text);
  if (wanted.length > 0) expect(printed.map((line) => line.trim())).toEqual(wanted.map((line) => line.trim()));
  if (block.output) expect(missingLines(block.output, printed.join("\n"))).toEqual([]);
}

interface Ended {
  readonly status: number | null;
  readonly output: string;
}

function run(command: string, args: readonly string[]): Promise<Ended> {
  const child = spawn(command, args, {
    cwd: work,
    env: { ...process.env, NO_COLOR: "1" },
    stdio: ["ignore", "pipe", "pipe"],
  });
  let output = "";
  child.stdout.on("data", (chunk) => {
    output += chunk;
  });
  child.stderr.on("data", (chunk) => {
    output += chunk;
  });
  return new Promise((resolve, reject) => {
    child.on("error", reject);
    child.on("close", (status) => resolve({ status, output }));
  });
}

const bin = join(root, "bin/wasm-vmx.mjs");

/** `wasm-vmx gdb` waits for a debugger: `talk` gets its port. */
async function withStub(args: readonly string[], talk: (port: string) => Promise<void>): Promise<void> {
  const child = spawn(process.execPath, [bin, ...args, "--listen", "0"], {
    cwd: work,
    stdio: ["ignore", "pipe", "pipe"],
  });
  try {
    const port = await new Promise<string>((resolve, reject) => {
      let heard = "";
      child.stderr.on("data", (chunk) => {
        heard += chunk;
        const found = /127\.0\.0\.1:(\d+)/.exec(heard);
        if (found) resolve(found[1]!);
      });
      child.on("close", () => reject(new Error(`the stub ended: ${heard}`)));
    });
    await talk(port);
  } finally {
    child.kill("SIGKILL");
  }
}

async function runCommands(block: Block): Promise<void> {
  let output = "";
  const commands = commandsOf(block.text);
  for (const [i, command] of commands.entries()) {
    const npm = NPM.exec(command);
    if (npm) {
      const name =
        npm.groups?.name ??
        (npm.groups?.short === "ci" || npm.groups?.short === "pack" ? undefined : npm.groups?.short);
      if (name !== undefined) expect(Object.keys(scripts)).toContain(name);
      // what it prints is promised below it
      if (name === "start" && block.output) output += (await run(process.execPath, [bin, "demo"])).output;
      continue;
    }
    const words = wordsOf(command.replace(/^npx (--no-install )?/, ""));
    const [name, ...args] = words;
    if (name === "gdb" || name === "git" || name === "cd") continue;
    expect(name, command).toBe("wasm-vmx");
    if (args[0] === "gdb" && !args.includes("--help")) {
      const debuggers = commands.slice(i + 1).filter((one) => one.startsWith("gdb "));
      await withStub(args, async (port) => {
        for (const one of hasGdb ? debuggers : []) {
          const parts = wordsOf(one).slice(1);
          const options = parts.map((part) => part.replace(/:1234\b/, `:${port}`));
          const ended = await run("gdb", ["-nx", "-batch", ...options]);
          expect(ended.status, ended.output).toBe(0);
          output += ended.output;
        }
      });
      if (!hasGdb) return;
      continue;
    }
    const wanted = Number(/# exit status (\d+)/.exec(block.text)?.[1] ?? 0);
    const ended = await run(process.execPath, [bin, ...args]);
    expect(ended.status, `${command}\n${ended.output}`).toBe(wanted);
    output += ended.output;
  }
  if (block.output) expect(missingLines(block.output, output)).toEqual([]);
}

describe.each(files.filter((file) => existsSync(file)).map((file) => [basename(file), file] as const))(
  "%s",
  (name, file) => {
    const blocks = blocksOf(readFileSync(file, "utf8"));

    it.each(blocks.map((block) => [block.language, block.line, block] as const))(
      "%s block at line %i",
      async (language, line, block) => {
        if (language === "ts" || language === "js") await runScript(block, `${name}-${line}.ts`);
        else if (language === "sh") await runCommands(block);
        else if (language === "json") JSON.parse(block.text);
        // output and drawings; output is compared with the block before it
        else expect(["text", "nasm", "html", ""]).toContain(language);
      },
      120_000,
    );

    it("links to files that exist", () => {
      const links = [...readFileSync(file, "utf8").matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)].map((match) => match[1]!);
      expect(links.filter((link) => !existsSync(join(file, "..", link)))).toEqual([]);
    });
  },
);
