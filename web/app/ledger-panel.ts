// The ledger: what everything cost, in cycles of the chosen model, by cause.
import { COST_MODELS, type CostKind } from "../../src/cost/index.ts";
import type { KvmView, MachineState } from "../session/protocol.ts";
import { byId, h, number, range } from "./dom.ts";

const CAUSES: readonly (readonly [CostKind, string])[] = [
  ["instruction", "Guest instructions"],
  ["exit", "VM exits"],
  ["userspace", "Trips to user space"],
  ["wrmsr", "WRMSRs of the policy"],
  ["rdmsr", "RDMSRs of the policy"],
  ["autoload", "MSRs of the load lists"],
  ["fault", "Faults delivered"],
];

interface Remembered {
  readonly label: string;
  readonly count: number;
  readonly low: number;
  readonly high: number;
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

export class LedgerPanel {
  readonly #view = byId("view-ledger");
  readonly #cost = h("select", { id: "cost" });
  readonly #content = h("div", { class: "ledger" });
  /** Results of the same program at the same instruction, by policy and host value. */
  #remembered = new Map<string, Remembered>();

  constructor(changed: () => void) {
    for (const { name, summary } of COST_MODELS) this.#cost.append(h("option", { value: name, title: summary }, name));
    this.#cost.addEventListener("change", () => {
      this.#remembered.clear();
      changed();
    });
    const bar = h(
      "div",
      { class: "view-bar" },
      h("label", { class: "field" }, h("span", {}, "Cost model"), this.#cost),
    );
    this.#view.replaceChildren(bar, this.#content);
  }

  get cost(): string {
    return this.#cost.value;
  }

  set cost(name: string) {
    this.#cost.value = name;
  }

  forget(): void {
    this.#remembered.clear();
  }

  show(state: MachineState): void {
    const vmx = state.vmx?.kvm;
    if (vmx === undefined) {
      this.#content.replaceChildren(
        h("p", { class: "empty" }, "On the bare processor nothing is paid for but instructions. Choose “Under KVM”."),
      );
      return;
    }
    if (state.status !== "running" && vmx.counts.exits > 0) this.#remember(vmx, state.count);
    const summary = COST_MODELS.find(({ name }) => name === vmx.cycles.model)?.summary ?? "";
    this.#content.replaceChildren(
      h(
        "p",
        { class: "total" },
        h("b", { "data-total": "" }, range(vmx.cycles.total.low, vmx.cycles.total.high)),
        ` cycles under `,
        h("b", {}, vmx.policy),
        `, host value ${vmx.hostValue}`,
      ),
      h("p", { class: "note" }, `${sentence(vmx.policySummary)} ${sentence(summary)}`),
      this.#bars(vmx),
      this.#others(state.count),
      this.#reasons(vmx),
    );
  }

  #bars({ cycles }: KvmView): HTMLElement {
    const most = Math.max(1, ...CAUSES.map(([kind]) => cycles.byCause[kind].high));
    const chart = h("div", { class: "bars", role: "list" });
    for (const [kind, name] of CAUSES) {
      const { low, high } = cycles.byCause[kind];
      const share = (value: number): string => `${((value / most) * 100).toFixed(2)}%`;
      const bar = h(
        "div",
        { class: "bar-track" },
        h("i", { class: `bar-low cause-${kind}`, style: `width:${share(low)}` }),
        h("i", { class: `bar-high cause-${kind}`, style: `width:${share(high - low)}` }),
      );
      chart.append(
        h(
          "div",
          { class: `bar-row${high === 0 ? " none" : ""}`, role: "listitem" },
          h("span", {}, name),
          bar,
          h("b", {}, range(low, high)),
        ),
      );
    }
    return chart;
  }

  #remember(vmx: KvmView, count: number): void {
    const { low, high } = vmx.cycles.total;
    const label = `${vmx.policy}, host ${vmx.hostValue}`;
    for (const [key, one] of this.#remembered) if (one.count !== count) this.#remembered.delete(key);
    this.#remembered.set(label, { label, count, low, high });
  }

  /** Other policies tried at this very instruction. */
  #others(count: number): HTMLElement {
    const list = [...this.#remembered.values()].filter((one) => one.count === count).sort((a, b) => a.low - b.low);
    if (list.length < 2)
      return h(
        "p",
        { class: "note" },
        "Change the policy above: the guest is run again to this instruction and the totals stand here side by side.",
      );
    const most = Math.max(...list.map(({ high }) => high));
    const rows = list.map(({ label, low, high }) =>
      h(
        "tr",
        {},
        h("th", { scope: "row" }, label),
        h("td", { class: "num" }, range(low, high)),
        h("td", { class: "mini" }, h("i", { style: `width:${(((low + high) / 2 / most) * 100).toFixed(1)}%` })),
      ),
    );
    return h(
      "table",
      { class: "others" },
      h("caption", {}, `Totals at instruction ${number(count)}`),
      h("tbody", {}, ...rows),
    );
  }

  #reasons({ byReason }: KvmView): HTMLElement {
    const rows = byReason.map(([reason, times]) =>
      h("tr", {}, h("th", { scope: "row" }, reason), h("td", { class: "num" }, number(times))),
    );
    return h("table", { class: "others" }, h("caption", {}, "VM exits by reason"), h("tbody", {}, ...rows));
  }
}
