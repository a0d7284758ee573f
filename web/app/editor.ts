// The program's editor: CodeMirror with breakpoints, errors and the line that runs next.
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { HighlightStyle, StreamLanguage, syntaxHighlighting } from "@codemirror/language";
import { type Diagnostic, setDiagnostics } from "@codemirror/lint";
import { EditorState, type Extension, RangeSet, StateEffect, StateField } from "@codemirror/state";
import { Decoration, drawSelection, EditorView, GutterMarker, gutter, keymap, lineNumbers } from "@codemirror/view";
import { tags } from "@lezer/highlight";
import { FORMS, type SourceError } from "../assembler/index.ts";
import { REGISTERS } from "../assembler/registers.ts";

const DIRECTIVES =
  /^(?:d[bwdq]|res[bwdq]|equ|org|bits|align|times|byte|word|dword|qword|rel|short|near|far|rep[nez]*|lock)$/i;

const language = StreamLanguage.define({
  token(stream) {
    if (stream.eatSpace()) return null;
    if (stream.match(/^;.*/)) return "comment";
    if (stream.match(/^(?:"[^"]*"|'[^']*'|`[^`]*`)/)) return "string";
    if (stream.match(/^\$?[0-9][0-9A-Za-z_]*/)) return "number";
    if (stream.match(/^[A-Za-z_.?@][\w.?@$#~]*:/)) return "labelName";
    const word = stream.match(/^[A-Za-z_.?@][\w.?@$#~]*/);
    if (word && word !== true) {
      const name = word[0].toLowerCase();
      if (DIRECTIVES.test(name)) return "keyword";
      if (REGISTERS.has(name)) return "variableName";
      return FORMS.has(name) ? "operatorKeyword" : "name";
    }
    stream.next();
    return null;
  },
});

const colours = HighlightStyle.define([
  { tag: tags.comment, color: "var(--code-comment)" },
  { tag: tags.string, color: "var(--code-string)" },
  { tag: tags.number, color: "var(--code-number)" },
  { tag: tags.labelName, color: "var(--code-label)" },
  { tag: tags.keyword, color: "var(--code-directive)" },
  { tag: tags.operatorKeyword, color: "var(--code-mnemonic)" },
  { tag: tags.variableName, color: "var(--code-register)" },
]);

const setLine = StateEffect.define<number | undefined>();
const lineMark = Decoration.line({ class: "cm-next-line" });
const nextLine = StateField.define({
  create: () => Decoration.none,
  update(marks, transaction) {
    let now = marks.map(transaction.changes);
    for (const effect of transaction.effects) {
      if (!effect.is(setLine)) continue;
      const line = effect.value;
      const known = line !== undefined && line <= transaction.state.doc.lines;
      now = known ? Decoration.set([lineMark.range(transaction.state.doc.line(line).from)]) : Decoration.none;
    }
    return now;
  },
  provide: (field) => EditorView.decorations.from(field),
});

class Dot extends GutterMarker {
  override toDOM(): Node {
    const dot = document.createElement("span");
    dot.className = "breakpoint-dot";
    return dot;
  }
}
const dot = new Dot();
const setDots = StateEffect.define<readonly number[]>();
const dots = StateField.define<RangeSet<GutterMarker>>({
  create: () => RangeSet.empty,
  update(set, transaction) {
    let now = set.map(transaction.changes);
    for (const effect of transaction.effects) {
      if (!effect.is(setDots)) continue;
      const { doc } = transaction.state;
      const lines = [...effect.value].filter((line) => line <= doc.lines).sort((a, b) => a - b);
      now = RangeSet.of(lines.map((line) => dot.range(doc.line(line).from)));
    }
    return now;
  },
});

export interface EditorEvents {
  changed(source: string): void;
  /** The gutter was clicked, or F2 pressed, at this line. */
  toggle(line: number): void;
  load(): void;
}

export class ProgramEditor {
  readonly #view: EditorView;
  readonly #events: EditorEvents;

  constructor(parent: HTMLElement, events: EditorEvents) {
    this.#events = events;
    this.#view = new EditorView({ parent, state: this.#state("") });
  }

  #state(doc: string): EditorState {
    const line = (view: EditorView, pos: number): number => view.state.doc.lineAt(pos).number;
    const toggle = (view: EditorView): boolean => {
      this.#events.toggle(line(view, view.state.selection.main.head));
      return true;
    };
    const extensions: Extension[] = [
      gutter({
        class: "cm-breakpoints",
        markers: (view) => view.state.field(dots),
        initialSpacer: () => dot,
        domEventHandlers: {
          mousedown: (view, block) => {
            this.#events.toggle(line(view, block.from));
            return true;
          },
        },
      }),
      lineNumbers(),
      history(),
      drawSelection(),
      language,
      syntaxHighlighting(colours),
      nextLine,
      dots,
      EditorState.tabSize.of(8),
      EditorView.contentAttributes.of({ "aria-label": "Assembly source", spellcheck: "false", autocapitalize: "off" }),
      keymap.of([
        {
          key: "Mod-Enter",
          run: () => {
            this.#events.load();
            return true;
          },
        },
        { key: "F2", run: toggle },
        {
          key: "Escape",
          run: (view) => {
            view.contentDOM.blur();
            document.getElementById("run")?.focus();
            return true;
          },
        },
        indentWithTab,
        ...historyKeymap,
        ...defaultKeymap,
      ]),
      EditorView.updateListener.of((update) => {
        if (update.docChanged) this.#events.changed(this.source);
      }),
    ];
    return EditorState.create({ doc, extensions });
  }

  get source(): string {
    return this.#view.state.doc.toString();
  }

  set source(text: string) {
    this.#view.setState(this.#state(text));
    this.#events.changed(text);
  }

  showErrors(errors: readonly SourceError[]): void {
    const { doc } = this.#view.state;
    const diagnostics = errors
      .filter(({ line }) => line <= doc.lines)
      .map(({ line, column, length, message }): Diagnostic => {
        const { from, to } = doc.line(line);
        // what is missing at the end of a line is marked at its last character
        const end = Math.min(from + column - 1 + length, to);
        const start = Math.max(from, Math.min(from + column - 1, end - 1));
        return { from: start, to: end, severity: "error", message };
      })
      .sort((a, b) => a.from - b.from);
    this.#view.dispatch(setDiagnostics(this.#view.state, diagnostics));
  }

  /** Lines with a breakpoint; they move with the text. */
  get breakpoints(): number[] {
    const lines: number[] = [];
    const { state } = this.#view;
    for (let cursor = state.field(dots).iter(); cursor.value; cursor.next())
      lines.push(state.doc.lineAt(cursor.from).number);
    return lines;
  }

  set breakpoints(lines: readonly number[]) {
    this.#view.dispatch({ effects: setDots.of(lines) });
  }

  /** Marks the line that runs next and, if asked, brings it into view. */
  showNext(line: number | undefined, scroll: boolean): void {
    const effects: StateEffect<unknown>[] = [setLine.of(line)];
    const { doc } = this.#view.state;
    if (scroll && line !== undefined && line <= doc.lines) {
      effects.push(EditorView.scrollIntoView(doc.line(line).from, { y: "nearest", yMargin: 40 }));
    }
    this.#view.dispatch({ effects });
  }

  goTo(line: number): void {
    const { doc } = this.#view.state;
    const { from } = doc.line(Math.min(line, doc.lines));
    this.#view.dispatch({ selection: { anchor: from }, effects: EditorView.scrollIntoView(from, { y: "center" }) });
    this.#view.focus();
  }
}
