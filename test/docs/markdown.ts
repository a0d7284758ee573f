// Code blocks of a Markdown file, with what the text around them promises.
export interface Block {
  readonly language: string;
  readonly text: string;
  /** Line of the opening fence, from 1. */
  readonly line: number;
  /** The block of output that follows directly, "" when there is none. */
  readonly output: string;
}

const FENCE = /^```(\w*)\n([\s\S]*?)^```$/gm;

export function blocksOf(markdown: string): Block[] {
  const found = [...markdown.matchAll(FENCE)].map((match) => ({
    language: match[1]!,
    text: match[2]!,
    start: match.index,
    end: match.index + match[0].length,
    line: markdown.slice(0, match.index).split("\n").length,
  }));
  return found.map(({ language, text, line, end }, i) => {
    const next = found[i + 1];
    // the output may be introduced by a sentence
    const between = next ? markdown.slice(end, next.start) : "";
    const follows = next?.language === "text" && !/^#/m.test(between) && between.trim().split("\n\n").length <= 1;
    return { language, text, line, output: follows ? next.text : "" };
  });
}

/** What the comments behind (and below) the calls of console.log promise, line by line. */
export function promised(code: string): string[] {
  const lines: string[] = [];
  let printing = false;
  for (const line of code.split("\n")) {
    const call = /console\.log\(.*\);\s*\/\/ (.*)$/.exec(line);
    const more = /^\s*\/\/ (.*)$/.exec(line);
    if (call) lines.push(call[1]!);
    else if (more && printing) lines.push(more[1]!);
    printing = call !== null || (printing && more !== null) || /console\.log\([\s\S]*\);$/.test(line.trim());
  }
  return lines;
}

/** Commands of a shell block: no comments, continuation lines joined. */
export function commandsOf(text: string): string[] {
  return text
    .replace(/\s*\\\n\s*/g, " ")
    .split("\n")
    .map((line) => line.replace(/(^|\s)#.*$/, "").trim())
    .filter((line) => line !== "");
}

/** Words of a command up to a pipe; quotes hold words together. */
export function wordsOf(command: string): string[] {
  const words = [...command.matchAll(/'([^']*)'|"([^"]*)"|([^\s|]+)|(\|)/g)];
  const pipe = words.findIndex((word) => word[4] !== undefined);
  return (pipe < 0 ? words : words.slice(0, pipe)).map((word) => word[1] ?? word[2] ?? word[3]!);
}

/** Times differ from run to run. */
const settle = (line: string): string =>
  line
    .replace(/\d+(\.\d+)? s \(\d+(\.\d+)? MIPS\)/, "TIME")
    .replace(/\s+/g, " ")
    .trim();

/** Lines of `wanted` that `printed` does not have in this order; "..." and commands stand for anything. */
export function missingLines(wanted: string, printed: string): string[] {
  const have = printed.split("\n").map(settle);
  let at = 0;
  return wanted.split("\n").filter((line) => {
    const sought = settle(line);
    if (sought === "" || sought === "..." || sought.startsWith("$ ")) return false;
    const found = have.indexOf(sought, at);
    if (found < 0) return true;
    at = found + 1;
    return false;
  });
}
