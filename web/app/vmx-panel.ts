// The VMX view: the timeline, the exits as a table, and all of one exit.
import type { ExitDetail, ExitSummary, VmxView } from "../session/protocol.ts";
import { byId, h, number } from "./dom.ts";
import { hex } from "./panels.ts";
import { spanText, Timeline } from "./timeline.ts";

/** Rows while the guest runs; all that are kept when it stands. */
const ROWS_RUNNING = 40;

export class VmxPanel {
  readonly #view = byId("view-vmx");
  readonly #summary = h("div", { class: "vmx-summary" });
  readonly #timeline: Timeline;
  readonly #body = h("tbody");
  readonly #detail = h("div", { class: "exit-detail" });
  readonly #table: HTMLElement;
  readonly #wide: HTMLElement;
  readonly #ask: (id: number) => void;
  #selected = -1;
  #shown = "";

  constructor(ask: (id: number) => void) {
    this.#ask = ask;
    this.#timeline = new Timeline((id) => this.#select(id));
    const head = h("tr", {});
    for (const text of ["#", "Exit", "What", "Then", "RIP", "Ran", "0x140", "WRMSR"])
      head.append(h("th", { scope: "col" }, text));
    this.#table = h(
      "div",
      { class: "scroll exits", tabindex: "0" },
      h("table", { class: "exit-table" }, h("thead", {}, head), this.#body),
    );
    this.#wide = h("div", { class: "exit-panes" }, this.#table, this.#detail);
    this.#body.addEventListener("click", (event) => {
      const row = (event.target as HTMLElement).closest<HTMLElement>("tr[data-id]");
      if (row) this.#select(Number(row.dataset.id));
    });
    this.#table.addEventListener("keydown", (event) => {
      const move = event.key === "ArrowUp" ? -1 : event.key === "ArrowDown" ? 1 : 0;
      if (move === 0) return;
      const rows = [...this.#body.children] as HTMLElement[];
      const at = rows.findIndex((row) => Number(row.dataset.id) === this.#selected);
      const row = rows[at < 0 ? 0 : at + move];
      if (!row) return;
      event.preventDefault();
      this.#select(Number(row.dataset.id));
    });
    this.clear();
  }

  clear(): void {
    this.#selected = -1;
    this.#shown = "";
    this.#detail.replaceChildren(
      h(
        "p",
        { class: "empty" },
        "Choose an exit to see its qualification, what KVM did and which VMCS fields changed.",
      ),
    );
  }

  recolour(): void {
    this.#timeline.recolour();
  }

  #select(id: number): void {
    this.#selected = id;
    this.#timeline.select(id, true);
    for (const row of this.#body.children as HTMLCollectionOf<HTMLElement>) {
      const on = Number(row.dataset.id) === id;
      row.classList.toggle("selected", on);
      if (on) row.scrollIntoView({ block: "nearest" });
    }
    this.#ask(id);
  }

  show(vmx: VmxView | undefined, running: boolean): void {
    if (vmx === undefined) {
      this.#shown = "";
      this.#view.replaceChildren(
        h(
          "p",
          { class: "empty" },
          "The guest runs on the bare processor: there is nothing above it and no VM exit. Choose “Under KVM” to see what a hypervisor sees, or the guest “hypervisor”, which is one itself.",
        ),
      );
      return;
    }
    const { kvm } = vmx;
    this.#timeline.hypervisor = kvm ? "KVM" : "hypervisor";
    if (!this.#timeline.element.isConnected)
      this.#view.replaceChildren(this.#summary, this.#timeline.element, this.#wide);
    const fact = (name: string, value: string, kind = "", title = ""): HTMLElement =>
      h("div", { class: `fact ${kind}`, title }, h("span", {}, name), h("b", {}, value));
    this.#summary.replaceChildren(
      ...(vmx.inGuest === undefined
        ? []
        : [
            fact("Processor in", vmx.inGuest ? "non-root operation" : "root operation", vmx.inGuest ? "guest" : "root"),
          ]),
      fact(
        "0x140, processor",
        String(vmx.physical),
        "physical",
        "MSR_MISC_FEATURES_ENABLES in the hardware now; bit 0: CPUID faults at CPL 3",
      ),
      fact("0x140, guest", String(vmx.virtual), "virtual", "what the guest wrote and reads"),
      fact("VM exits", number(vmx.total)),
      ...(kvm
        ? [
            fact("To user space", number(kvm.counts.userSpace)),
            fact("Policy's WRMSRs", number(kvm.counts.wrmsr), "write"),
          ]
        : [fact("Hypervisor", "the guest itself")]),
      ...(kvm && kvm.leaks > 0
        ? [
            fact(
              "Leaks",
              number(kvm.leaks),
              "bad",
              "entries at which the host's faulting bit acted against the guest's wish",
            ),
          ]
        : []),
    );
    const key = `${vmx.total}:${vmx.exits.length}:${running}:${vmx.exits.at(-1)?.userSpace}`;
    const grown = key !== this.#shown;
    this.#timeline.show(vmx.exits, vmx, grown && (running || this.#selected < 0));
    if (!grown) return;
    this.#shown = key;
    const exits = running ? vmx.exits.slice(-ROWS_RUNNING) : vmx.exits;
    const rows = exits.map((exit, i) => this.#row(exit, exits[i - 1]));
    this.#body.replaceChildren(...rows);
    if (exits.length === 0)
      this.#body.replaceChildren(h("tr", {}, h("td", { colspan: 8, class: "empty" }, "No exit yet: run or step.")));
    if (running || this.#selected < 0) this.#table.scrollTop = this.#table.scrollHeight;
  }

  #row(exit: ExitSummary, before: ExitSummary | undefined): HTMLElement {
    const left = before !== undefined && before.id !== exit.id - 1;
    const row = h(
      "tr",
      {
        "data-id": exit.id,
        class: `${exit.id === this.#selected ? "selected" : ""}${left ? " gap" : ""}`,
        title: left ? `${exit.id - before.id - 1} exits between are not kept` : "",
      },
      h("td", { class: "num" }, number(exit.id)),
      h("td", { class: "reason" }, exit.reason),
      h("td", { class: "what", title: exit.text }, exit.text),
      h("td", {}, exit.injected ? h("em", {}, "injects") : h("i", {}, exit.userSpace ? "user space" : "resumes")),
      h("td", { class: "num mono" }, hex(exit.rip)),
      h("td", { class: "num" }, spanText(exit)),
      h("td", { class: "num mono" }, `${exit.physical}/${exit.virtual}`),
      h("td", { class: "num" }, exit.writes === 0 ? "" : String(exit.writes)),
    );
    return row;
  }

  detail(detail: ExitDetail | undefined): void {
    if (detail === undefined) {
      this.#detail.replaceChildren(h("p", { class: "empty" }, "This exit is no longer kept."));
      return;
    }
    const { id, reason, text, rip, qualification, interruption, handling, changed, physical, virtual } = detail;
    const facts = h("dl", { class: "facts-list" });
    const add = (name: string, value: string): void => facts.append(h("dt", {}, name), h("dd", {}, value));
    add("Qualification", `0x${hex(qualification)}`);
    if (interruption >>> 31) add("Interruption info", `0x${hex(interruption >>> 0, 8)}`);
    add("Guest RIP", `0x${hex(rip)}`);
    add("0x140", `${physical} in the processor, ${virtual} in the guest`);
    add("Guest ran", `${spanText(detail)} instructions`);
    const fields = h(
      "table",
      { class: "fields" },
      h("caption", {}, `VMCS fields that changed since the exit before (${changed.length})`),
    );
    for (const { name, before, after } of changed) {
      fields.append(
        h(
          "tr",
          {},
          h("th", { scope: "row" }, name),
          h("td", {}, before),
          h("td", { class: "arrow" }, "→"),
          h("td", { class: "after" }, after),
        ),
      );
    }
    this.#detail.replaceChildren(
      h("h3", {}, `${number(id)} · ${reason}`),
      text ? h("p", {}, text) : false || "",
      facts,
      ...(handling.length > 0
        ? [h("h4", {}, "What KVM did"), h("ol", { class: "handling" }, ...handling.map((line) => h("li", {}, line)))]
        : []),
      fields,
    );
  }
}
