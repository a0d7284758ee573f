import { describe, expect, it } from "vitest";
import { blocksOf, commandsOf, missingLines, promised, wordsOf } from "./markdown.ts";

describe("code blocks of a Markdown file", () => {
  const page =
    "# A\n\n```sh\nrun it   # twice\nand \\\n  so | head\n```\n\nprints\n\n```text\none\n```\n\n## B\n\n```text\ntwo\n```\n";

  it("know their line and the output that follows", () => {
    expect(blocksOf(page).map(({ language, line, output }) => [language, line, output])).toEqual([
      ["sh", 3, "one\n"],
      ["text", 11, ""],
      ["text", 17, ""],
    ]);
  });

  it("give commands without comments", () => {
    expect(commandsOf(blocksOf(page)[0]!.text)).toEqual(["run it", "and so | head"]);
    expect(wordsOf("gdb -ex 'target remote :1' a | head -n 2")).toEqual(["gdb", "-ex", "target remote :1", "a"]);
  });

  it("give what console.log promises", () => {
    const code =
      "console.log(1); // 1\nfor (;;) {\n  console.log(a, b);\n  // x 1\n  // y 2\n}\n// a comment\nf(); // another";
    expect(promised(code)).toEqual(["1", "x 1", "y 2"]);
  });

  it("miss lines that are absent, different or in another order", () => {
    const printed = "a\nb 1  2\nran in 0.5 s (3.0 MIPS), bare\nc\n";
    expect(missingLines("$ cmd\na\n...\nb 1 2\nran in 7 s (99 MIPS), bare\n", printed)).toEqual([]);
    expect(missingLines("b 1 3\n", printed)).toEqual(["b 1 3"]);
    expect(missingLines("c\na\n", printed)).toEqual(["a"]);
  });
});
