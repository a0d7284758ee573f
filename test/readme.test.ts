// The example of the README, as it stands there.
import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import * as api from "../src/index.ts";

const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8");
const examples = [...readme.matchAll(/```ts\n([\s\S]*?)```/g)].map((match) => match[1]!);

describe("README", () => {
  it("has an example that does what it says", () => {
    expect(examples).toHaveLength(1);
    const [example] = examples as [string];
    const names = /import \{ ([^}]*) \} from "wasm-vmx"/.exec(example)![1]!.split(", ");
    const said = /console\.log\(.*\); \/\/ (.*)/.exec(example)![1];
    const printed: string[] = [];
    const body = example.replace(/^import .*$/m, "");
    const run = new Function(...names, "console", body) as (...args: unknown[]) => void;
    const log = (...values: unknown[]) =>
      printed.push(values.map((value) => (typeof value === "bigint" ? `${value}n` : String(value))).join(" "));
    const exported: Readonly<Record<string, unknown>> = { ...api };
    run(...names.map((name) => exported[name]), { log });
    expect(printed).toEqual([said]);
  });
});
