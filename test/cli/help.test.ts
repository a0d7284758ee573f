import { spawnSync } from "node:child_process";
import { connect } from "node:net";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { COMMANDS } from "../../src/cli/commands.ts";
import { fitText } from "../../src/cli/fit.ts";
import { listenAddress } from "../../src/cli/gdb.ts";
import { guestFile, root, start, wasmVmx } from "./command.ts";

const BIN = join(root, "bin/wasm-vmx.mjs");
const names = COMMANDS.map(({ name }) => name);

function narrow(...args: string[]): string {
  const env = { ...process.env, NO_COLOR: "1", COLUMNS: "40" };
  const { status, stdout } = spawnSync(process.execPath, [BIN, ...args], { encoding: "utf8", env });
  expect(status).toBe(0);
  return stdout;
}

const words = (text: string): string => text.replace(/\s+/g, " ");
/** Commands to copy stay on one line. */
const withoutExamples = (text: string): string => text.replace(/^Examples:\n( .*\n)+/m, "");

describe("help", () => {
  it("lists every command", async () => {
    const { stdout } = await wasmVmx("--help");
    for (const { name, summary } of COMMANDS) expect(stdout).toMatch(new RegExp(`^ {2}${name} +${summary}$`, "m"));
    expect(stdout).toContain("Exit status");
  });

  it.each(names)("of %s fits into 80 columns, says its exit status and names every option", async (name) => {
    const { status, stdout } = await wasmVmx(name, "--help");
    expect(status).toBe(0);
    expect(stdout.split("\n").filter((line) => line.length > 80)).toEqual([]);
    const { options } = await COMMANDS.find((entry) => entry.name === name)!.load();
    for (const option of Object.keys(options)) expect(stdout).toContain(`--${option}`);
  });

  it.each(names)("of %s has examples and its exit status", async (name) => {
    const { stdout } = await wasmVmx(name, "--help");
    expect(stdout).toMatch(/^Examples:\n {2}(wasm-vmx|source)/m);
    expect(stdout).toMatch(/\bExit status/);
  });

  it.each(["", ...names])("of %j is folded in a narrow terminal and loses no word", async (name) => {
    const args = name === "" ? ["--help"] : [name, "--help"];
    const folded = narrow(...args);
    expect(
      withoutExamples(folded)
        .split("\n")
        .filter((line) => line.length > 40),
    ).toEqual([]);
    expect(words(folded)).toBe(words((await wasmVmx(...args)).stdout));
  });

  it("keeps the forms of a command apart", () => {
    const text =
      "Usage: wasm-vmx lab GUEST\n       wasm-vmx lab merge FILE\n       wasm-vmx lab check\n\nlong enough to be folded at this width";
    expect(fitText(text, 30).split("\n").slice(0, 3)).toEqual(text.split("\n").slice(0, 3));
    expect(fitText(text, 30)).not.toContain("FILE wasm-vmx");
  });

  it("leaves a text alone that fits", () => {
    const text = "Usage: x\n\n  --a   b\n        c";
    expect(fitText(text, 80)).toBe(text);
    expect(fitText("one two three", 7)).toBe("one two\nthree");
  });

  it("comes for an unknown command from the nearest one", async () => {
    expect(await wasmVmx("help", "dissasm")).toMatchObject({ status: 2, stderr: expect.stringContaining("disasm?") });
    for (const name of names) {
      const { status, stderr } = await wasmVmx(name, "--hlep");
      expect({ status, stderr }).toEqual({ status: 2, stderr: expect.stringContaining("(did you mean --help?)") });
    }
  });
});

describe("completion", () => {
  const bash = spawnSync("bash", ["--version"]).status === 0;

  /** What bash offers for a line. */
  function complete(...line: string[]): string[] {
    const script = `source <("${process.execPath}" "${BIN}" completion bash)
      COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _wasm_vmx; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const { stdout, stderr } = spawnSync("bash", ["-c", script, "bash", ...line], { encoding: "utf8", cwd: root });
    expect(stderr).toBe("");
    return stdout.split("\n").filter((word) => word !== "");
  }

  it.skipIf(!bash)("offers commands, options, values and files in bash", () => {
    expect(complete("wasm-vmx", "")).toEqual([...names, "--help", "--version"]);
    expect(complete("wasm-vmx", "di")).toEqual(["disasm"]);
    expect(complete("wasm-vmx", "run", "--max")).toEqual(["--max-instructions"]);
    expect(complete("wasm-vmx", "run", "--mode", "")).toEqual(["real", "protected", "long"]);
    expect(complete("wasm-vmx", "disasm", "--bits", "6")).toEqual(["64"]);
    expect(complete("wasm-vmx", "trace", "READ")).toEqual(["README.md"]);
    expect(complete("wasm-vmx", "completion", "f")).toEqual(["fish"]);
  });

  it.each(["bash", "zsh", "fish"])("has every command and option for %s", async (shell) => {
    const { status, stdout } = await wasmVmx("completion", shell);
    expect(status).toBe(0);
    for (const { name, load } of COMMANDS) {
      expect(stdout).toContain(name);
      for (const option of Object.keys((await load()).options))
        expect(stdout).toMatch(new RegExp(`(--|-l )${option}\\b`));
    }
  });

  it("refuses other shells", async () => {
    expect(await wasmVmx("completion", "zhs")).toMatchObject({ status: 2, stderr: expect.stringContaining("zsh?") });
    expect(await wasmVmx("completion")).toMatchObject({ status: 2, stderr: expect.stringContaining("one shell") });
  });
});

describe("wasm-vmx gdb", () => {
  it("listens on loopback unless told otherwise", () => {
    expect(listenAddress("1234")).toEqual({ host: "127.0.0.1", port: 1234 });
    expect(listenAddress("0.0.0.0:99")).toEqual({ host: "0.0.0.0", port: 99 });
    expect(listenAddress("[::1]:99")).toEqual({ host: "::1", port: 99 });
    for (const bad of ["", "x", "70000", "1:2:3", "host:", ":"])
      expect(() => listenAddress(bad)).toThrow(/--listen needs/);
  });

  it("serves one connection, and ends with the guest's status", async () => {
    // mov al, 7; out 0f4h, al
    const { child, result } = start(["gdb", guestFile([0xb0, 7, 0xe6, 0xf4]), "--listen", "0"]);
    let said = "";
    const port = await new Promise<number>((resolve) => {
      child.stderr!.on("data", (chunk) => {
        said += chunk;
        const match = /waiting for GDB on 127\.0\.0\.1:(\d+)/.exec(said);
        if (match) resolve(Number(match[1]));
      });
    });
    const socket = connect(port, "127.0.0.1");
    let got = "";
    socket.on("data", (chunk) => {
      got += chunk.toString("latin1");
    });
    await new Promise((resolve) => socket.once("connect", resolve));
    const second = connect(port, "127.0.0.1");
    second.on("error", () => {});
    await new Promise((resolve) => second.once("close", resolve));
    const until = async (text: string) => {
      while (!got.includes(text)) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    socket.write("$vCont;c#a8");
    await until("T05");
    socket.write("$vCont;c#a8");
    await until("$W07#");
    expect((await result).status).toBe(7);
    expect(said).toContain("refused a second connection");
  });

  it("stands still when the connection is lost, and ends at Ctrl-C", async () => {
    const { child, result } = start(["gdb", guestFile([0xeb, 0xfe]), "--listen", "0"]);
    let said = "";
    child.stderr!.on("data", (chunk) => {
      said += chunk;
    });
    const until = async (text: string) => {
      while (!said.includes(text)) await new Promise((resolve) => setTimeout(resolve, 5));
    };
    await until("waiting for GDB");
    const port = Number(/127\.0\.0\.1:(\d+)/.exec(said)![1]);
    const socket = connect(port, "127.0.0.1");
    await new Promise((resolve) => socket.once("connect", resolve));
    socket.write("$vCont;c#a8", () => socket.destroy());
    await until("the connection was lost");
    child.kill("SIGINT");
    expect((await result).status).toBe(130);
  });

  it.each<[string, string[], string]>([
    ["an address", ["--listen", "here"], "--listen needs [HOST:]PORT"],
    ["an architecture", ["--arch", "i368"], "did you mean i386?"],
    ["a host that is not here", ["--listen", "192.0.2.1:0"], "cannot listen on 192.0.2.1:0"],
  ])("refuses %s", async (_name, args, message) => {
    const { status, stderr } = await wasmVmx("gdb", guestFile([0xf4]), ...args);
    expect(stderr).toContain(message);
    expect(status).toBe(2);
  });
});
