// npm run --silent bench:guest -- FILE LOAD ENTRY. Builds first when nothing is built; stdout carries JSON only.
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

const built = new URL("../dist/src/bench/guest.js", import.meta.url);
if (!existsSync(fileURLToPath(built))) {
  const ensure = fileURLToPath(new URL("./ensure.mjs", import.meta.url));
  spawnSync(process.execPath, [ensure], { stdio: ["ignore", 2, 2] });
}
if (existsSync(fileURLToPath(built))) {
  const { main } = await import(built.href);
  process.exitCode = main(process.argv.slice(2));
} else {
  console.error("bench:guest: the build failed");
  process.exitCode = 1;
}
