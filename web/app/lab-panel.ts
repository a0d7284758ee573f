// The laboratory: the guest of the page under every policy, and where hardware faulting starts to pay.
import type { LabMessage, LabReport, LabRequest, LabRow } from "../session/lab-protocol.ts";
import type { Program } from "../session/protocol.ts";
import { breakEvenPlot } from "./break-even-plot.ts";
import { byId, h, number, range, short } from "./dom.ts";

const VERDICTS = {
  hardware: "above the break-even: faulting in hardware is cheaper",
  emulation: "below the break-even: emulation is cheaper",
  undecided: "inside the uncertainty of the cost model: neither side is clearly cheaper",
} as const;

export class LabPanel {
  readonly #view = byId("view-lab");
  readonly #button = h("button", { type: "button", id: "compare", class: "primary" }, "Compare all policies");
  readonly #progress = h("span", { class: "note", role: "status" });
  readonly #content = h("div", { class: "lab" });
  readonly #ask: () => LabRequest | undefined;
  #worker: Worker | undefined;

  constructor(ask: () => LabRequest | undefined) {
    this.#ask = ask;
    this.#view.replaceChildren(h("div", { class: "view-bar" }, this.#button, this.#progress), this.#content);
    this.#button.addEventListener("click", () => (this.#worker ? this.#stop("stopped") : this.#start()));
    this.forget();
  }

  forget(): void {
    this.#stop("");
    this.#content.replaceChildren(
      h(
        "p",
        { class: "empty" },
        "Runs this guest under five policies for MSR 0x140 on a host with value 0 and one with value 1, and shows which are right, which is cheapest, and where the break-even of the two sides lies.",
      ),
    );
  }

  #stop(text: string): void {
    this.#worker?.terminate();
    this.#worker = undefined;
    this.#button.textContent = "Compare all policies";
    this.#progress.textContent = text;
  }

  #start(): void {
    const request = this.#ask();
    if (!request) return;
    const worker = new Worker(new URL("./lab.js", import.meta.url), { type: "module" });
    this.#worker = worker;
    this.#button.textContent = "Stop";
    worker.onmessage = ({ data }: MessageEvent<LabMessage>) => {
      if (data.kind === "progress") this.#progress.textContent = data.text;
      else {
        this.#stop("");
        if (data.kind === "error") this.#progress.textContent = data.message;
        else this.#show(data.report, request.program);
      }
    };
    worker.onerror = (event) => this.#stop(event.message || "the laboratory cannot be started");
    worker.postMessage(request);
  }

  #show(report: LabReport, program: Program): void {
    const { breakEven } = report;
    const rows = report.rows.map((row) => this.#row(row));
    const head = h("tr", {});
    for (const text of ["Host", "Policy", "Result", "Exits", "CPUID", "WRMSR", "RDMSR", "Cycles"])
      head.append(h("th", { scope: "col" }, text));
    const hardware = report.rows.find(({ policy, host }) => policy === "always-hardware" && host === 0);
    const perLoad = breakEven && hardware ? hardware.rdmsr / breakEven.enteringLoads : 0;
    const plot = breakEvenPlot(report, perLoad);
    const limit =
      report.ending === "limit"
        ? [h("p", { class: "note" }, "The guest did not end: it was compared over its first 20 million instructions.")]
        : [];
    const verdict = breakEven
      ? [
          h(
            "p",
            {},
            `${program.name}: ${number(breakEven.faultingCpuids)} faulting CPUIDs in ${number(breakEven.enteringLoads)} loads that enter the guest, `,
            h("b", {}, `${breakEven.rate.toPrecision(3)} a load`),
            `. Under ${report.model} the break-even is at ${breakEven.threshold.low.toPrecision(3)}–${breakEven.threshold.high.toPrecision(3)}: `,
            h("b", {}, VERDICTS[breakEven.verdict]),
            ".",
          ),
        ]
      : [
          h(
            "p",
            {},
            "This guest makes no faulting CPUID on a host with value 0: there is nothing to gain from faulting in hardware.",
          ),
        ];
    const legend = h(
      "ul",
      { class: "legend" },
      h("li", {}, h("i", { class: "exit" }), "emulation: an exit a CPUID"),
      h("li", {}, h("i", { class: "wrmsr" }), "hardware: two WRMSRs a load"),
      h("li", {}, h("i", { class: "threshold" }), "break-even"),
    );
    this.#content.replaceChildren(
      ...limit,
      ...verdict,
      ...(plot
        ? [
            h(
              "figure",
              {},
              plot as unknown as HTMLElement,
              h("figcaption", {}, "Cycles a load of the two sides, low to high end of the model", legend),
            ),
          ]
        : []),
      h(
        "div",
        { class: "scroll-x" },
        h("table", { class: "lab-table" }, h("thead", {}, head), h("tbody", {}, ...rows)),
      ),
      h("p", { class: "note" }, "★ cheapest of the policies that are right, leak nothing and keep the host's value."),
    );
  }

  #row(row: LabRow): HTMLElement {
    const result = row.right ? (row.leaks > 0 ? "by luck" : "right") : "wrong";
    const num = (value: number): HTMLElement => h("td", { class: "num" }, value === 0 ? "0" : short(value));
    return h(
      "tr",
      { class: row.cheapest ? "best" : row.right ? "" : "bad", title: row.wrong },
      h("td", { class: "num" }, String(row.host)),
      h("th", { scope: "row" }, `${row.policy}${row.cheapest ? " ★" : ""}`),
      h("td", {}, result),
      num(row.exits),
      num(row.cpuidExits),
      num(row.wrmsr),
      num(row.rdmsr),
      h("td", { class: "num" }, range(row.total.low, row.total.high)),
    );
  }
}
