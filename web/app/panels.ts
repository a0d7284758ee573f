// Disassembly, registers, memory and console: what a state of the machine looks like.
import type { ListedInstruction, MachineState, RegisterView } from "../session/protocol.ts";
import { byId, h, parseAddress } from "./dom.ts";

const FLAGS: readonly (readonly [bit: number, name: string, title: string])[] = [
  [0, "CF", "carry"],
  [2, "PF", "parity"],
  [4, "AF", "auxiliary carry"],
  [6, "ZF", "zero"],
  [7, "SF", "sign"],
  [8, "TF", "trap: single step"],
  [9, "IF", "interrupts enabled"],
  [10, "DF", "direction: down"],
  [11, "OF", "overflow"],
  [14, "NT", "nested task"],
  [16, "RF", "resume"],
  [17, "VM", "virtual-8086 mode"],
  [18, "AC", "alignment check"],
];

export const hex = (value: bigint | number, digits = 0): string => value.toString(16).padStart(digits, "0");

function registerRow({ name, value, width }: RegisterView, before: bigint | undefined): HTMLElement {
  const changed = before !== undefined && before !== value;
  const title = `${value} unsigned, ${BigInt.asIntN(width, value)} signed${changed ? `; before: 0x${hex(before)}` : ""}`;
  return h(
    "div",
    { class: changed ? "register changed" : "register", title },
    h("dt", {}, name),
    h("dd", {}, hex(value, width / 4)),
  );
}

export class RegistersPanel {
  readonly #element = byId("registers");
  #before = new Map<string, bigint>();
  #count = -1;

  show(state: MachineState): void {
    const all = [...state.general, ...state.system, { name: "rflags", value: state.rflags, width: 32 }];
    // the same moment again (a look at memory, another tab) keeps its marks
    const moved = state.count !== this.#count;
    const before = this.#before;
    const fresh = this.#count < 0 || state.count === 0;
    const of = (name: string): bigint | undefined => (fresh ? undefined : before.get(name));
    if (!moved && !fresh) return;
    const beforeFlags = of("rflags") ?? state.rflags;
    const flags = FLAGS.map(([bit, name, title]) => {
      const on = (state.rflags >> BigInt(bit)) & 1n;
      const changed = on !== ((beforeFlags >> BigInt(bit)) & 1n);
      const kind = `flag${on ? " on" : ""}${changed ? " changed" : ""}`;
      return h("span", { class: kind, title: `${title}: ${on}` }, name);
    });
    this.#element.replaceChildren(
      h("dl", { class: "general" }, ...state.general.map((one) => registerRow(one, of(one.name)))),
      h("div", { class: "flags", role: "group", "aria-label": "Flags" }, ...flags),
      h("dl", { class: "system" }, ...state.system.map((one) => registerRow(one, of(one.name)))),
    );
    if (state.status !== "running") {
      this.#before = new Map(all.map(({ name, value }) => [name, value]));
      this.#count = state.count;
    }
  }

  forget(): void {
    this.#count = -1;
    this.#before = new Map();
  }
}

export class ListingPanel {
  readonly #element = byId("listing");
  #key = "";
  #rows = new Map<number, HTMLElement>();
  breakpoints: ReadonlySet<number> = new Set();

  constructor(toggle: (address: number) => void) {
    const from = (event: Event): void => {
      const row = (event.target as HTMLElement).closest<HTMLElement>("[data-address]");
      if (row) toggle(Number(row.dataset.address));
    };
    this.#element.addEventListener("click", from);
    this.#element.addEventListener("keydown", (event) => {
      if (event.key !== "F2") return;
      event.preventDefault();
      const row = this.#element.querySelector<HTMLElement>(".next");
      if (row) toggle(Number(row.dataset.address));
    });
  }

  #row({ address, bytes, text }: ListedInstruction): HTMLElement {
    const [mnemonic = "", ...operands] = text.split(" ");
    const row = h(
      "div",
      { class: "instruction", role: "option", "data-address": address, title: "click: breakpoint" },
      h("span", { class: "dot" }),
      h("span", { class: "address" }, hex(address, 6)),
      h("span", { class: "bytes" }, bytes.replaceAll(" ", "")),
      h("span", { class: "text" }, h("b", {}, mnemonic), ` ${operands.join(" ")}`),
    );
    this.#rows.set(address, row);
    return row;
  }

  show(state: MachineState): void {
    const key = state.listing.map(({ address, bytes }) => `${address}${bytes}`).join();
    if (key !== this.#key) {
      this.#key = key;
      this.#rows.clear();
      this.#element.replaceChildren(...state.listing.map((one) => this.#row(one)));
    }
    for (const [address, row] of this.#rows) {
      const next = address === state.rip;
      row.classList.toggle("next", next);
      row.setAttribute("aria-selected", String(next));
      row.classList.toggle("stops", this.breakpoints.has(address));
    }
    const next = this.#rows.get(state.rip);
    if (next && state.status !== "running") {
      const box = this.#element;
      if (next.offsetTop < box.scrollTop || next.offsetTop + next.offsetHeight > box.scrollTop + box.clientHeight) {
        box.scrollTop = Math.max(0, next.offsetTop - box.clientHeight / 3);
      }
    }
    if (state.listing.length === 0)
      this.#element.replaceChildren(h("p", { class: "empty" }, "No page is mapped where the processor would go on."));
  }
}

export class MemoryPanel {
  readonly #rows = h("div", { class: "dump" });
  readonly #input = h("input", { id: "memory-address", size: 14, spellcheck: "false", autocomplete: "off" });
  #address = 0x100000;
  #before: readonly (number | undefined)[] = [];
  #beforeAddress = -1;
  #registers: readonly RegisterView[] = [];
  readonly #look: (address: number) => void;

  constructor(look: (address: number) => void) {
    this.#look = look;
    const form = h(
      "form",
      { class: "view-bar" },
      h("label", { class: "field" }, h("span", {}, "Linear address"), this.#input),
      h("button", { type: "submit" }, "Look"),
    );
    for (const name of ["rip", "rsp", "rsi", "rdi"]) {
      const button = h("button", { type: "button", class: "quiet" }, name.toUpperCase());
      button.addEventListener("click", () => {
        const found = this.#registers.find((one) => one.name === name || one.name === name.replace("r", "e"));
        if (found) this.go(Number(found.value) & ~15);
      });
      form.append(button);
    }
    for (const [text, move] of [
      ["◂ page", -256],
      ["page ▸", 256],
    ] as const) {
      const button = h("button", { type: "button", class: "quiet" }, text);
      button.addEventListener("click", () => this.go(Math.max(0, this.#address + move)));
      form.append(button);
    }
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const address = parseAddress(this.#input.value);
      this.#input.setCustomValidity(address === undefined ? "A hexadecimal address, such as 7c00" : "");
      if (address === undefined) this.#input.reportValidity();
      else this.go(address & ~15);
    });
    this.#input.addEventListener("input", () => this.#input.setCustomValidity(""));
    byId("view-memory").replaceChildren(form, this.#rows);
  }

  get address(): number {
    return this.#address;
  }

  go(address: number): void {
    this.#address = address >>> 0 === address ? address : 0;
    this.#look(this.#address);
  }

  show(state: MachineState): void {
    this.#registers = state.general;
    const { address, bytes } = state.memory;
    if (document.activeElement !== this.#input) this.#input.value = hex(address);
    const same = this.#beforeAddress === address;
    const lines: HTMLElement[] = [];
    for (let row = 0; row < bytes.length; row += 16) {
      const cells = bytes.slice(row, row + 16);
      const shown = cells.map((byte, i) => {
        const changed = same && this.#before[row + i] !== byte;
        return h(
          "span",
          { class: changed ? "changed" : byte === 0 ? "zero" : "" },
          byte === undefined ? "··" : hex(byte, 2),
        );
      });
      const text = cells
        .map((byte) => (byte !== undefined && byte >= 32 && byte < 127 ? String.fromCharCode(byte) : "·"))
        .join("");
      lines.push(
        h(
          "div",
          { class: "dump-row" },
          h("span", { class: "address" }, hex(address + row, 8)),
          h("span", { class: "cells" }, ...shown),
          h("span", { class: "ascii" }, text),
        ),
      );
    }
    this.#rows.replaceChildren(...lines);
    if (state.status !== "running") {
      this.#before = bytes;
      this.#beforeAddress = address;
    }
  }
}

export class ConsolePanel {
  readonly #element = byId("console");
  #decoder = new TextDecoder();
  #length = 0;

  constructor(send: (text: string) => void) {
    const input = byId<HTMLInputElement>("console-input");
    byId("console-form").addEventListener("submit", (event) => {
      event.preventDefault();
      send(`${input.value}\n`);
      input.value = "";
    });
  }

  show(state: MachineState): void {
    if (state.consoleFrom === 0 || state.consoleFrom < this.#length) {
      this.#element.textContent = "";
      this.#decoder = new TextDecoder();
    }
    this.#length = state.consoleFrom + state.console.length;
    if (state.console === "") return;
    const bytes = Uint8Array.from(state.console, (c) => c.charCodeAt(0));
    const atEnd = this.#element.scrollTop + this.#element.clientHeight >= this.#element.scrollHeight - 8;
    this.#element.append(this.#decoder.decode(bytes, { stream: true }));
    if (atEnd) this.#element.scrollTop = this.#element.scrollHeight;
  }
}
