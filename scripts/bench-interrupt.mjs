// npm run bench:interrupt: time from SIGINT to the end of `wasm-vmx run`, on guests that never end.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";

const folder = new URL("../fixtures/guests/", import.meta.url);
const command = new URL("../bin/wasm-vmx.mjs", import.meta.url).pathname;
const guests = JSON.parse(readFileSync(new URL("manifest.json", folder), "utf8")).filter(
  ({ ends }) => ends === "never",
);

for (const how of ["--bare", "--vmx"]) {
  for (const { name, file, mode, load, entry } of guests) {
    const path = new URL(file, folder).pathname;
    const args = [command, "run", path, "--mode", mode, "--load", `${load}`, "--entry", `${entry}`, how];
    const child = spawn(process.execPath, args, { stdio: "ignore" });
    const ended = new Promise((resolve) => child.once("exit", (status) => resolve(status)));
    await new Promise((resolve) => setTimeout(resolve, 800));
    const start = performance.now();
    child.kill("SIGINT");
    const status = await ended;
    console.log(
      `${name.padEnd(12)} ${how.padEnd(7)} ${(performance.now() - start).toFixed(0).padStart(4)} ms, exit status ${status}`,
    );
  }
}
