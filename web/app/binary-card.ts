// What stands in the editor's place for a guest without a source.
import type { Program } from "../session/protocol.ts";
import { h, number } from "./dom.ts";

export interface CardEvents {
  /** The same bytes, started in another mode or place. */
  load(program: Program): void;
  complain(message: string): void;
  /** Back to the editor. */
  write(): void;
}

const MODES = [
  ["real", "real mode"],
  ["protected", "protected mode, 32-bit"],
  ["long", "long mode, 64-bit"],
] as const;

const at = (program: Program): string => `0x${(program.load ?? 0).toString(16)}`;

/** `description`: of a guest of the page; a file of the reader's own can be loaded another way. */
export function binaryCard(program: Program, description: string | undefined, events: CardEvents): HTMLElement[] {
  const flat = program.mode !== undefined;
  const facts = h("dl", { class: "facts-list" });
  const add = (name: string, ...value: (HTMLElement | string)[]): void =>
    facts.append(h("dt", {}, name), h("dd", {}, ...value));
  add("Format", flat ? "flat binary" : "ELF");
  add("Size", `${number(program.bytes.length)} bytes`);
  if (flat && description === undefined) {
    const mode = h("select", { id: "binary-mode" });
    for (const [value, text] of MODES) mode.append(h("option", { value }, text));
    mode.value = program.mode!;
    const place = h("input", { id: "binary-load", value: at(program), size: 10, spellcheck: "false" });
    const again = h("button", { type: "button" }, "Load so");
    again.addEventListener("click", () => {
      const load = Number(place.value);
      if (!Number.isSafeInteger(load) || load < 0) {
        events.complain(`"${place.value}" is no address: decimal or 0x hexadecimal.`);
      } else events.load({ ...program, mode: mode.value as NonNullable<Program["mode"]>, load });
    });
    add("Starts in", mode);
    add("Loaded at", place, " ", again);
  } else if (flat) add("Starts in", `${program.mode} mode at ${at(program)}`);
  const write = h("button", { type: "button" }, "Write a program instead");
  write.addEventListener("click", () => events.write());
  return [
    h("h3", {}, program.name),
    h("p", {}, description ?? "A file of your own. It stays in this page."),
    facts,
    h("p", { class: "note" }, "Breakpoints: click a line of the disassembly."),
    write,
  ];
}
