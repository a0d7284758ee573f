// Help texts are written for 80 columns; narrower terminals get them folded.

const NARROWEST = 20;
const HELP_COLUMNS = 80;
/** Where the explanations of options begin. */
const TEXT_COLUMN = 21;

/** Columns of a stream's terminal: its own width, else COLUMNS, else 80. */
export function columnsOf(stream: { readonly columns?: number }): number {
  const said = stream.columns ?? Number(process.env.COLUMNS);
  return Number.isInteger(said) && said >= NARROWEST ? said : said > 0 ? NARROWEST : 80;
}

/** Words in lines of at most `columns`, each indented; a longer word stands alone. */
export function wrapWords(text: string, columns: number, indent = 0): string[] {
  const pad = " ".repeat(indent);
  const lines: string[] = [];
  let line = "";
  for (const word of text.trim().split(/\s+/)) {
    if (line !== "" && indent + line.length + 1 + word.length > columns) {
      lines.push(pad + line);
      line = word;
    } else line = line === "" ? word : `${line} ${word}`;
  }
  return line === "" ? lines : [...lines, pad + line];
}

/** An option or name and its explanation, for help texts of 80 columns. */
export function helpRow(head: string, text: string): string {
  const lines = wrapWords(text, HELP_COLUMNS, TEXT_COLUMN);
  const left = `  ${head}`;
  if (left.length + 2 > TEXT_COLUMN) return [left, ...lines].join("\n");
  return [left.padEnd(TEXT_COLUMN) + lines[0]!.trimStart(), ...lines.slice(1)].join("\n");
}

interface Block {
  /** Option, policy, command: what stands left of the explanation. */
  readonly head?: string;
  readonly indent: number;
  text: string;
  /** Commands to copy: kept as they are. */
  readonly verbatim?: boolean;
}

/** A further form of the command. */
const isUsage = (line: string): boolean => line.trimStart().startsWith("wasm-vmx ");
const indentOf = (line: string): number => line.length - line.trimStart().length;

/** Paragraphs and rows of two columns, with their continuation lines joined. */
function blocks(text: string): (Block | undefined)[] {
  const found: (Block | undefined)[] = [];
  let open: { readonly block: Block; readonly column: number } | undefined;
  let verbatim = false;
  for (const line of text.split("\n")) {
    const indent = indentOf(line);
    verbatim = line.startsWith("Examples:") || (verbatim && line.trim() !== "");
    if (verbatim) {
      found.push({ indent, text: line.trim(), verbatim });
      continue;
    }
    const row = /^( *)(\S.*?) {2,}(\S.*)$/.exec(line);
    if (line.trim() === "") {
      found.push(undefined);
      open = undefined;
    } else if (open !== undefined && indent === open.column && !(row && indent < 8) && !isUsage(line)) {
      open.block.text += ` ${line.trim()}`;
    } else if (row !== null) {
      const block = { head: row[2]!, indent, text: row[3]! };
      open = { block, column: line.length - row[3]!.length };
      found.push(block);
    } else {
      // a long option stands alone, its explanation in the lines below
      const alone = line.trim().startsWith("--");
      const block: Block = alone ? { head: line.trim(), indent, text: "" } : { indent, text: line.trim() };
      open = { block, column: alone ? TEXT_COLUMN : indent };
      found.push(block);
    }
  }
  return found;
}

/** The text as it is when it fits, else folded: an option on a line of its own, its explanation below. */
export function fitText(text: string, columns: number): string {
  if (text.split("\n").every((line) => line.length <= columns)) return text;
  const lines = blocks(text).flatMap((block) => {
    if (block === undefined) return [""];
    const { head, indent } = block;
    if (block.verbatim) return [" ".repeat(indent) + block.text];
    if (head === undefined) return wrapWords(block.text, columns, indent);
    return [...wrapWords(head, columns, indent), ...wrapWords(block.text, columns, indent + 4)];
  });
  return lines.join("\n");
}
