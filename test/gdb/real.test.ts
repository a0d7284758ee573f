// Debian's gdb against the server. WASM_VMX_RECORD_GDB=1 writes the packets of each session to fixtures/gdb, which
// replay.test.ts plays without gdb.
import { spawn, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { serveGdb } from "../../src/cli/gdbServer.ts";
import type { GdbTarget } from "../../src/gdb/index.ts";
import { targetOf } from "./guest.ts";
import type { Recorded } from "./replay.test.ts";
import { type Command, SCENARIOS } from "./scenarios.ts";

const found = spawnSync("gdb", ["--version"]).status === 0;
const MARK = "=== command";

interface Session {
  /** What GDB printed for each command. */
  readonly outputs: readonly string[];
  readonly packets: Recorded[];
}

/** Runs gdb with the commands; `$PORT` in a command is the server's. */
async function debug(target: GdbTarget, commands: readonly Command[], interruptAt?: number): Promise<Session> {
  const packets: Recorded[] = [];
  const controller = new AbortController();
  let text = "";
  let served: Promise<unknown> = Promise.resolve();
  const address = await new Promise<string>((resolve, reject) => {
    served = serveGdb(target, {
      listen: { host: "127.0.0.1", port: 0 },
      signal: controller.signal,
      flush: () => {},
      onListening: resolve,
      onPacket: (direction, data) => packets.push([direction, data]),
    });
    served.catch(reject);
  });
  const port = address.slice(address.lastIndexOf(":"));
  const args = ["-nx", "-batch"];
  commands.forEach(([command], i) => {
    args.push("-ex", `echo \n${MARK} ${i}\n`, "-ex", command.replace("$PORT", port));
  });
  // one pipe keeps the order of what is printed
  const gdb = spawn("sh", ["-c", 'exec gdb "$@" 2>&1', "sh", ...args], {
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, DEBUGINFOD_URLS: "" },
  });
  const collect = (chunk: Buffer): void => {
    text += chunk.toString();
    if (interruptAt === undefined || !text.includes(`${MARK} ${interruptAt}\n`)) return;
    // once, when the guest has begun to run
    const wait = setInterval(() => {
      if (packets.at(-1)?.[1].startsWith("vCont;c") !== true) return;
      clearInterval(wait);
      setTimeout(() => gdb.kill("SIGINT"), 200);
    }, 20);
    interruptAt = undefined;
  };
  gdb.stdout.on("data", collect);
  await new Promise((resolve) => gdb.on("close", resolve));
  controller.abort();
  await served;
  const pieces = text.split(new RegExp(`\n?${MARK} \\d+\n`)).slice(1);
  return { outputs: commands.map((_, i) => pieces[i] ?? "(nothing)"), packets };
}

function check(commands: readonly Command[], outputs: readonly string[]): void {
  commands.forEach(([command, ...expected], i) => {
    for (const text of expected) {
      if (typeof text === "string") expect(outputs[i], command).toContain(text);
      else expect(outputs[i], command).toMatch(text);
    }
  });
}

describe.skipIf(!found)("gdb (skipped where it is not installed)", () => {
  it.each(SCENARIOS)("debugs the guest $name", async (scenario) => {
    const target = targetOf(scenario);
    const { outputs, packets } = await debug(target, scenario.commands);
    check(scenario.commands, outputs);
    if (process.env.WASM_VMX_RECORD_GDB === undefined) return;
    const version = spawnSync("gdb", ["--version"], { encoding: "utf8" }).stdout.split("\n")[0];
    const lines = packets.map((packet) => JSON.stringify(packet)).join(",\n");
    const file = new URL(`../../fixtures/gdb/${scenario.name}.json`, import.meta.url);
    writeFileSync(file, `{"gdb":${JSON.stringify(version)},"packets":[\n${lines}\n]}\n`);
  });

  it("interrupts a guest that never ends", async () => {
    // 7c00: jmp 7c00h
    const spin = { name: "spin", mode: "real", load: 0x7c00, code: [0xeb, 0xfe], commands: [] } as const;
    const commands: Command[] = [
      ["target remote $PORT"],
      ["continue", "Program received signal SIGINT", /0x0*7c00 in/],
      ["p/x $pc", "= 0x7c00"],
      ["kill"],
    ];
    const { outputs } = await debug(targetOf(spin), commands, 1);
    check(commands, outputs);
  });
});
