import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { generated } from "../../scripts/vmx-tables.ts";

describe("generated VMX numbers", () => {
  it.each(Object.entries(generated()))("%s equals a fresh generation", (path, text) => {
    expect(readFileSync(new URL(`../../${path}`, import.meta.url), "utf8")).toBe(text);
  });
});
