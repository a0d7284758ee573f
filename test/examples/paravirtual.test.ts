import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { main } from "../../examples/paravirtual.ts";

test("the guest finds the hypervisor and calls it through its page", () => {
  expect(main()).toEqual({ signature: "Wasm", sum: 42n });
});

test("the example has fewer than a hundred lines", () => {
  const text = readFileSync(new URL("../../examples/paravirtual.ts", import.meta.url), "utf8");
  expect(text.trimEnd().split("\n").length).toBeLessThan(100);
});
