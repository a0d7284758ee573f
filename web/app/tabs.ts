// Tabs as the ARIA practices describe them: one stop for Tab, arrows between them.
import { byId } from "./dom.ts";

const NAMES = ["vmx", "ledger", "lab", "memory"] as const;

export interface Tabs {
  readonly current: string;
  show(name: string): void;
}

export function initTabs(changed: () => void): Tabs {
  let current = "vmx";
  const show = (name: string): void => {
    if (!(NAMES as readonly string[]).includes(name)) return;
    current = name;
    for (const one of NAMES) {
      const tab = byId(`tab-${one}`);
      tab.setAttribute("aria-selected", String(one === name));
      tab.tabIndex = one === name ? 0 : -1;
      byId(`view-${one}`).hidden = one !== name;
    }
    changed();
  };
  for (const [i, name] of NAMES.entries()) {
    const tab = byId(`tab-${name}`);
    tab.addEventListener("click", () => show(name));
    tab.addEventListener("keydown", (event) => {
      const move = event.key === "ArrowRight" ? 1 : event.key === "ArrowLeft" ? -1 : 0;
      if (move === 0) return;
      event.preventDefault();
      const next = NAMES[(i + move + NAMES.length) % NAMES.length]!;
      show(next);
      byId(`tab-${next}`).focus();
    });
  }
  return {
    get current() {
      return current;
    },
    show,
  };
}
