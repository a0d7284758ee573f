import { grouped } from "../cost/index.ts";

/** Columns that every text for a terminal keeps to. */
export const COLUMNS = 80;

/** Breaks at spaces; lines after the first are indented. */
export function wrap(text: string, width = COLUMNS, indent = "  "): string[] {
  const lines: string[] = [];
  const lead = /^ */.exec(text)![0];
  let line = "";
  for (const word of text.slice(lead.length).split(" ")) {
    if (line !== "" && line.length + 1 + word.length > width) {
      lines.push(line);
      line = indent + word;
    } else {
      line = line === "" ? lead + word : `${line} ${word}`;
    }
  }
  lines.push(line);
  return lines;
}

/** 20,544,255 to 20,550,015 becomes "20.544-20.550M": as many digits as tell the ends apart, four at least. */
export function shortCycles(low: number, high: number): string {
  const [unit, suffix] = high >= 1e9 ? [1e9, "G"] : high >= 1e6 ? [1e6, "M"] : high >= 1e4 ? [1e3, "k"] : [1, ""];
  if (unit === 1) return low === high ? grouped(low) : `${grouped(low)}-${grouped(high)}`;
  for (let digits = 1; ; digits++) {
    const [a, b] = [(low / unit).toFixed(digits), (high / unit).toFixed(digits)];
    const enough = b.replace(".", "").length >= 4;
    if (enough && (a !== b || low === high || digits >= 4)) return a === b ? `${a}${suffix}` : `${a}-${b}${suffix}`;
  }
}
