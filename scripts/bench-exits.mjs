// npm run --silent bench:exits [-- EXITS]. Builds first when nothing is built.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const built = new URL("../dist/src/bench/exits.js", import.meta.url);
if (!existsSync(fileURLToPath(built))) {
  const ensure = fileURLToPath(new URL("./ensure.mjs", import.meta.url));
  spawnSync(process.execPath, [ensure], { stdio: ["ignore", 2, 2] });
}
if (existsSync(fileURLToPath(built))) {
  const { main } = await import(built.href);
  process.exitCode = main(process.argv.slice(2));
} else {
  console.error("bench:exits: the build failed");
  process.exitCode = 1;
}
