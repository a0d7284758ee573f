// Where the guest runs: bare or under KVM, with which policy, host value and kernel.
import { KERNEL_VERSIONS } from "../../src/kvm/version.ts";
import { ALL_POLICIES } from "../../src/policy/index.ts";
import type { MachineSettings } from "../session/protocol.ts";
import { byId, h } from "./dom.ts";

const KERNEL = "6.19";

export class Controls {
  readonly #policy = byId<HTMLSelectElement>("policy");
  readonly #host = byId<HTMLSelectElement>("host");
  readonly #kernel = byId<HTMLSelectElement>("kernel");

  constructor() {
    for (const { name, summary } of ALL_POLICIES) {
      this.#policy.append(h("option", { value: name, title: summary }, name));
    }
    for (const version of KERNEL_VERSIONS) this.#kernel.append(h("option", { value: version }, version));
    this.#kernel.value = KERNEL;
  }

  read(): Omit<MachineSettings, "cost"> {
    const under = document.querySelector<HTMLInputElement>("input[name=under]:checked")!.value as "kvm" | "bare";
    return { under, policy: this.#policy.value, hostValue: Number(this.#host.value), kernel: this.#kernel.value };
  }

  /** What a select does not offer leaves it as it is. */
  apply(settings: MachineSettings): void {
    const value = settings.under === "bare" ? "bare" : "kvm";
    document.querySelector<HTMLInputElement>(`input[name=under][value=${value}]`)!.checked = true;
    const set = (select: HTMLSelectElement, wanted: string): void => {
      if ([...select.options].some((option) => option.value === wanted)) select.value = wanted;
    };
    set(this.#policy, settings.policy);
    set(this.#host, String(settings.hostValue));
    set(this.#kernel, settings.kernel);
    this.showUnder();
  }

  showUnder(): void {
    const bare = this.read().under === "bare";
    for (const select of [this.#policy, this.#host, this.#kernel]) select.disabled = bare;
  }

  /** `under`: the change was between bare and KVM. */
  listen(changed: (under: boolean) => void): void {
    for (const select of [this.#policy, this.#host, this.#kernel])
      select.addEventListener("change", () => changed(false));
    byId("under").addEventListener("change", () => changed(true));
  }
}
