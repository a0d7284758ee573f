// Builds the playground into web/dist: one static page with relative addresses, for any static host.
// node web/build.mjs            builds
// node web/build.mjs --serve    builds and serves it on 127.0.0.1 (--port N, default 8140)
import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { dirname, extname, join, normalize } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const root = dirname(here);
const GUESTS = join(root, "fixtures", "guests");
/** Binaries that the page offers; their records come from the fixtures' manifest. */
const BINARIES = ["app-start", "cpuid-heavy", "leak", "msr-faulting", "sha256-64", "modes", "hypervisor", "spin"];

export async function buildPlayground(out = join(here, "dist")) {
  rmSync(out, { recursive: true, force: true });
  mkdirSync(join(out, "guests"), { recursive: true });
  const common = {
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    legalComments: "linked",
    logLevel: "warning",
  };
  const { metafile } = await build({
    ...common,
    metafile: true,
    entryPoints: {
      main: join(here, "app/main.ts"),
      worker: join(here, "session/worker.ts"),
      lab: join(here, "session/lab-worker.ts"),
    },
    loader: { ".asm": "text" },
    outdir: out,
  });
  await build({ ...common, entryPoints: [join(here, "style.css")], outdir: out });
  cpSync(join(here, "index.html"), join(out, "index.html"));
  const manifest = JSON.parse(readFileSync(join(GUESTS, "manifest.json"), "utf8"));
  const offered = manifest.filter(({ name }) => BINARIES.includes(name));
  for (const { file } of offered) cpSync(join(GUESTS, file), join(out, "guests", file.replace("bin/", "")));
  const records = offered.map(({ name, file, mode, load, format, description, needs }) => ({
    ...{ name, mode, description, file: file.replace("bin/", "") },
    ...(format === "flat" ? { load } : {}),
    ...(needs ? { under: "bare" } : {}),
  }));
  writeFileSync(join(out, "guests", "manifest.json"), `${JSON.stringify(records, null, 1)}\n`);
  writeFileSync(join(out, "licences.txt"), licences(metafile));
  return out;
}

/** The licence texts of everything that is bundled. */
function licences(metafile) {
  const names = Object.keys(metafile.inputs).map((file) => /node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(file)?.[1]);
  const texts = [...new Set(names)]
    .filter(Boolean)
    .sort()
    .map((name) => {
      const folder = join(root, "node_modules", name);
      const file = readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
      const { license, version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
      return `${name} ${version} (${license})\n\n${file ? readFileSync(join(folder, file), "utf8") : ""}`;
    });
  return [`wasm-vmx\n\n${readFileSync(join(root, "LICENSE"), "utf8")}`, ...texts].join(`\n${"-".repeat(72)}\n\n`);
}

const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".json": "application/json",
  ".txt": "text/plain; charset=utf-8",
};

/** Serves a folder on the loopback interface. */
export function serve(folder, port) {
  const server = createServer((request, response) => {
    const path = normalize(decodeURIComponent(new URL(request.url, "http://localhost").pathname));
    const file = join(folder, path.endsWith("/") ? `${path}index.html` : path);
    try {
      if (!file.startsWith(folder)) throw new Error("outside");
      const body = readFileSync(file);
      response.writeHead(200, { "content-type": TYPES[extname(file)] ?? "application/octet-stream" }).end(body);
    } catch {
      response.writeHead(404, { "content-type": "text/plain" }).end("not found\n");
    }
  });
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen(port, "127.0.0.1", () => resolve(server));
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  try {
    const out = await buildPlayground();
    const at = process.argv.indexOf("--port");
    if (process.argv.includes("--serve")) {
      const port = at < 0 ? 8140 : Number(process.argv[at + 1]);
      if (!Number.isInteger(port) || port < 0 || port > 65535) throw new Error("--port needs a number from 0 to 65535");
      const server = await serve(out, port);
      console.log(`playground on http://127.0.0.1:${server.address().port}/ (Ctrl-C stops it)`);
    } else console.log(`playground in ${out}`);
  } catch (error) {
    console.error(
      `wasm-vmx: ${error.code === "EADDRINUSE" ? "the port is taken: give another one with --port" : error.message}`,
    );
    process.exitCode = 1;
  }
}
