// Starts a benchmark of dist/src/bench. Builds first when nothing is built; talks on stderr only.
import { existsSync } from "node:fs";
import { fileURLToPath } from "node:url";

/** `first`: arguments before those of the command line. */
export async function runBuilt(name, ...first) {
  const built = new URL(`../dist/src/bench/${name}.js`, import.meta.url);
  if (!existsSync(fileURLToPath(built))) {
    const ensure = fileURLToPath(new URL("./ensure.mjs", import.meta.url));
    const { spawnSync } = await import("node:child_process");
    spawnSync(process.execPath, [ensure], { stdio: ["ignore", 2, 2] });
  }
  if (existsSync(fileURLToPath(built))) {
    const { main } = await import(built.href);
    process.exitCode = main([...first, ...process.argv.slice(2)]);
  } else {
    console.error(`bench:${name}: the build failed`);
    process.exitCode = 1;
  }
}
