export interface Actions {
  run(): unknown;
  step(times: number): unknown;
  back(times: number): unknown;
  reset(): unknown;
  tab(name: string): unknown;
  help(): unknown;
}

const MANY = 100;

/** Function keys work everywhere, letters where no text is typed. */
export function initShortcuts(actions: Actions): void {
  const always: Readonly<Record<string, () => unknown>> = {
    F8: () => actions.run(),
    F10: () => actions.step(1),
    F9: () => actions.back(1),
    F6: () => actions.reset(),
    "Shift+F10": () => actions.step(MANY),
    "Shift+F9": () => actions.back(MANY),
  };
  const letters: Readonly<Record<string, () => unknown>> = {
    r: () => actions.run(),
    s: () => actions.step(1),
    b: () => actions.back(1),
    S: () => actions.step(MANY),
    B: () => actions.back(MANY),
    x: () => actions.reset(),
    "1": () => actions.tab("vmx"),
    "2": () => actions.tab("ledger"),
    "3": () => actions.tab("lab"),
    "4": () => actions.tab("memory"),
    "?": () => actions.help(),
  };
  window.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    const target = event.target as HTMLElement;
    if (target.closest("dialog[open]")) return;
    const typing = target.closest("input:not([type=radio]), textarea, select, .cm-content") !== null;
    const named = always[`${event.shiftKey ? "Shift+" : ""}${event.key}`];
    const action = named ?? (typing ? undefined : letters[event.key]);
    if (!action) return;
    event.preventDefault();
    action();
  });
}
