// Makes a checkout usable: installs when node_modules is missing or older than the lock file, builds what is stale,
// and links this package's own command into node_modules/.bin. Says nothing when there is nothing to do.
import { spawnSync } from "node:child_process";
import { existsSync, lstatSync, mkdirSync, statSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const LOCK = join(root, "package-lock.json");
const INSTALLED = join(root, "node_modules", ".package-lock.json");

function install() {
  if (existsSync(INSTALLED) && statSync(INSTALLED).mtimeMs >= statSync(LOCK).mtimeMs) return;
  console.error("wasm-vmx: installing development dependencies (npm ci)");
  const npm = process.env.npm_execpath;
  const args = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
  const options = { cwd: root, stdio: ["ignore", 2, 2] };
  const result = npm
    ? spawnSync(process.execPath, [npm, ...args], options)
    : spawnSync("npm", args, { ...options, shell: process.platform === "win32" });
  if (result.error) throw result.error;
  if (result.status !== 0) throw new Error(`npm ci failed with status ${result.status}`);
}

/** npm links a package's own command only for packages that depend on it. */
function linkCommand() {
  const link = join(root, "node_modules", ".bin", "wasm-vmx");
  if (process.platform === "win32" || lstatSync(link, { throwIfNoEntry: false })) return;
  mkdirSync(dirname(link), { recursive: true });
  try {
    symlinkSync("../../bin/wasm-vmx.mjs", link);
  } catch (error) {
    if (error.code !== "EEXIST") throw error;
  }
}

try {
  const [major] = process.versions.node.split(".").map(Number);
  if (major < 20) throw new Error(`Node.js 20 or newer is needed, this is ${process.version}`);
  install();
  linkCommand();
  const { build } = await import("./build.mjs");
  build();
} catch (error) {
  console.error(`wasm-vmx: ${error.message}`);
  process.exitCode = 1;
}
