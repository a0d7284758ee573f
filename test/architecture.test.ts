// The rules of docs/architecture.md that a machine can check: who may import whom, where node:* may appear, file sizes.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize, relative } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

/** Lowest first; folders of one row do not import each other. */
const ASSEMBLY_ORDER = [
  ["abi"],
  ["generator"], // a module of its own: nothing else imports it
  ["imports"],
  ["state"],
  ["apic"],
  ["memory"],
  ["system"],
  ["decode", "events"],
  ["blocks", "vmx"],
  ["execute"],
  ["jit"],
  ["run"],
  ["index"],
];
const SRC_ORDER = [
  ["core"],
  ["disasm", "cost", "devices", "snapshot"],
  ["machine", "policy"],
  ["trace", "worker"],
  ["kvm"],
  ["lab"],
  ["gdb"],
  ["bench"],
  ["cli"],
  ["index"],
];
/** Folders of src/ that may use node:* and its globals. */
const NODE_FOLDERS = ["cli", "bench"];

const LINES = 500;
/** Files above the limit, each with its reason. */
const LARGE: Readonly<Record<string, string>> = {};

/** Cycles inside one folder that stay, each with its reason. */
const CYCLES: Readonly<Record<string, string>> = {
  "assembly/memory/context.ts -> assembly/memory/frames.ts -> assembly/memory/context.ts":
    "a flush forgets the page-table frames, a new page-table frame drops write entries",
};

interface Import {
  readonly from: string;
  readonly to: string;
}

function files(folder: string): string[] {
  return readdirSync(join(root, folder), { recursive: true, encoding: "utf8" })
    .map((name) => join(folder, name))
    .filter((name) => name.endsWith(".ts") && !name.endsWith(".d.ts"));
}

const read = (file: string) => readFileSync(join(root, file), "utf8");
const generated = (file: string) => file.endsWith(".generated.ts");

/** Every module a file names, `import type`, re-exports and dynamic imports included. */
function specifiers(text: string): string[] {
  const code = text.replace(/\/\*[\s\S]*?\*\//g, "").replace(/^\s*\/\/.*$/gm, "");
  const pattern =
    /(?:^|[\s;])(?:import|export)\s*(?:type\s)?[^"';]*?\bfrom\s*["']([^"']+)["']|\bimport\s*\(?\s*["']([^"']+)["']/g;
  return [...code.matchAll(pattern)].map((match) => (match[1] ?? match[2])!);
}

function imports(folder: string): Import[] {
  return files(folder)
    .filter((file) => !file.endsWith("Bytes.generated.ts"))
    .flatMap((from) =>
      specifiers(read(from))
        .filter((specifier) => specifier.startsWith("."))
        .map((specifier) => ({ from, to: normalize(join(dirname(from), specifier)) })),
    );
}

/** `assembly/memory/walk.ts` -> `memory`; a file at the top stands for itself. */
function unit(folder: string, file: string): string {
  return relative(folder, file).split("/")[0]!.replace(/\.ts$/, "");
}

function rank(order: readonly string[][], name: string): number {
  return order.findIndex((row) => row.includes(name));
}

/** What is wrong with one import, or undefined. */
function violation(folder: string, order: readonly string[][], { from, to }: Import): string | undefined {
  const source = unit(folder, from);
  if (!to.startsWith(`${folder}/`)) {
    const shared = folder === "src" && to.startsWith("assembly/abi/");
    return shared ? undefined : `${from} imports ${to}, outside ${folder}/`;
  }
  const target = unit(folder, to);
  if (source === target) return undefined;
  if (rank(order, target) < 0) return `${to}: ${target} has no place in the order`;
  return rank(order, target) < rank(order, source)
    ? undefined
    : `${from} imports ${to}: ${source} lies below ${target}`;
}

/** A cycle written from its first name, so that it reads alike wherever the search entered it. */
function fromFirst(cycle: readonly string[]): string[] {
  const at = cycle.indexOf([...cycle].sort()[0]!);
  const turned = [...cycle.slice(at), ...cycle.slice(0, at)];
  return [...turned, turned[0]!];
}

/** Files that reach themselves through imports; type-only edges count. */
function cycles(edges: readonly Import[]): string[] {
  const next = new Map<string, string[]>();
  for (const { from, to } of edges) {
    const target = to.endsWith(".ts") ? to : `${to}.ts`;
    next.set(from, [...(next.get(from) ?? []), target]);
  }
  const state = new Map<string, "open" | "done">();
  const found: string[] = [];
  const visit = (file: string, path: readonly string[]) => {
    if (state.get(file) === "done") return;
    if (state.get(file) === "open") {
      found.push(fromFirst(path.slice(path.indexOf(file))).join(" -> "));
      return;
    }
    state.set(file, "open");
    for (const target of next.get(file) ?? []) visit(target, [...path, file]);
    state.set(file, "done");
  };
  for (const file of next.keys()) visit(file, []);
  return found;
}

describe.each([
  ["assembly", ASSEMBLY_ORDER],
  ["src", SRC_ORDER],
] as const)("%s", (folder, order) => {
  const edges = imports(folder);

  it("keeps the import order", () => {
    expect(edges.map((edge) => violation(folder, order, edge)).filter((text) => text !== undefined)).toEqual([]);
  });

  it("has every folder in the order", () => {
    const unknown = files(folder)
      .map((file) => unit(folder, file))
      .filter((name) => rank(order, name) < 0);
    expect([...new Set(unknown)]).toEqual([]);
  });

  it("has no import cycle", () => {
    expect(cycles(edges).filter((cycle) => !(cycle in CYCLES))).toEqual([]);
  });

  it(`has no file above ${LINES} lines without a reason`, () => {
    const long = files(folder).filter((file) => !generated(file) && read(file).split("\n").length > LINES + 1);
    expect(long.filter((file) => !(file in LARGE))).toEqual([]);
  });
});

describe("the generator", () => {
  it("is imported by nothing of the core", () => {
    const within = (file: string) => file.startsWith("assembly/generator/");
    const strays = imports("assembly").filter(({ from, to }) => within(to) && !within(from));
    expect(strays.map(({ from, to }) => `${from} imports ${to}`)).toEqual([]);
  });
});

describe("web", () => {
  const page = files("web").filter((file) => !file.startsWith("web/dist/"));

  it("imports no node:* module, and only src and assembly/abi outside itself", () => {
    const strays = page.flatMap((from) =>
      specifiers(read(from))
        .map((name) => (name.startsWith(".") ? normalize(join(dirname(from), name)) : name))
        .filter(
          (to) =>
            to.startsWith("node:") || (to.includes("/") && !/^(web|src|assembly\/abi|fixtures\/guests|@)/.test(to)),
        )
        .map((to) => `${from} imports ${to}`),
    );
    expect(strays).toEqual([]);
  });

  it(`has no file above ${LINES} lines`, () => {
    expect(page.filter((file) => read(file).split("\n").length > LINES + 1)).toEqual([]);
  });
});

describe("src outside cli and bench", () => {
  const portable = files("src").filter((file) => !generated(file) && !NODE_FOLDERS.includes(unit("src", file)));

  it("imports no node:* module", () => {
    const uses = portable.filter((file) =>
      specifiers(read(file)).some((name) => /^(node:|fs$|path$|util$)/.test(name)),
    );
    expect(uses).toEqual([]);
  });

  it("uses no Node global", () => {
    const uses = portable.filter((file) =>
      /\b(process\.|Buffer\.|__dirname|require\()/.test(read(file).replace(/^\s*(\/\/|\*).*$/gm, "")),
    );
    expect(uses).toEqual([]);
  });

  it("reads the bytes of the WebAssembly modules in one file", () => {
    const uses = files("src").filter((file) =>
      specifiers(read(file)).some((name) => name.endsWith("Bytes.generated.ts")),
    );
    expect(uses).toEqual(["src/core/bytes.ts"]);
  });
});

describe("the checks themselves", () => {
  it("see an upward import, a sibling import and a way out", () => {
    const check = (from: string, to: string) => violation("src", SRC_ORDER, { from, to });
    expect(check("src/core/a.ts", "src/kvm/b.ts")).toContain("core lies below kvm");
    expect(check("src/machine/a.ts", "src/policy/b.ts")).toContain("machine lies below policy");
    expect(check("src/core/a.ts", "assembly/memory/walk.ts")).toContain("outside src/");
    expect(check("src/kvm/a.ts", "src/machine/b.ts")).toBeUndefined();
    expect(check("src/core/a.ts", "assembly/abi/state.ts")).toBeUndefined();
  });

  it("see every kind of import", () => {
    const text = `import a from "./a";\nimport type { B } from "./b";\nexport * from "./c";\nimport "./d";\nawait import("./e");
import {
  f,
} from "./f";
// import g from "./g";`;
    expect(specifiers(text)).toEqual(["./a", "./b", "./c", "./d", "./e", "./f"]);
  });

  it("see a cycle", () => {
    const edges = [
      { from: "a.ts", to: "b" },
      { from: "b.ts", to: "a" },
    ];
    expect(cycles(edges)).toEqual(["a.ts -> b.ts -> a.ts"]);
  });
});
