// The page: wires the controls to the worker and its states to the panels.
import { type Assembly, assemble } from "../assembler/index.ts";
import type { MachineSettings, MachineState, Message, Program, Request } from "../session/protocol.ts";
import { binaryCard } from "./binary-card.ts";
import { Controls } from "./controls.ts";
import { byId, h, number } from "./dom.ts";
import { ProgramEditor } from "./editor.ts";
import { openFile } from "./files.ts";
import { type BinaryGuest, binaryGuests, fetchGuest, SOURCES } from "./guests.ts";
import { LabPanel } from "./lab-panel.ts";
import { LedgerPanel } from "./ledger-panel.ts";
import { decodeSession, encodeSession, fromBase64, MAX_LINK, type SavedSession, toBase64 } from "./link.ts";
import { ConsolePanel, hex, ListingPanel, MemoryPanel, RegistersPanel } from "./panels.ts";
import { initShortcuts } from "./shortcuts.ts";
import { initTabs } from "./tabs.ts";
import { initTheme } from "./theme.ts";
import { VmxPanel } from "./vmx-panel.ts";

const START_MODES = { 16: "real", 32: "protected", 64: "long" } as const;
const EDIT_MS = 250;
const MEMORY_ROWS = 16;

/** What is loaded or being written. */
type Work =
  | { readonly kind: "source" }
  | { readonly kind: "binary"; readonly program: Program; readonly guest?: string };

let work: Work = { kind: "source" };
let assembly: Assembly | undefined;
/** The source differs from what is loaded. */
let edited = false;
let editTimer = 0;
let latest: MachineState | undefined;
/** Breakpoints at addresses that no line of the source has. */
let loose = new Set<number>();
let binaries: readonly BinaryGuest[] = [];
let ticket = 0;
const waiting = new Map<number, (error: string | undefined) => void>();

const guestSelect = byId<HTMLSelectElement>("guest");
const controls = new Controls();

// --- the worker ---

const worker = startWorker();

function startWorker(): Worker {
  const made = new Worker(new URL("./worker.js", import.meta.url), { type: "module" });
  made.onmessage = ({ data }: MessageEvent<Message>) => receive(data);
  made.onerror = (event) =>
    alertText(`The processor's worker failed: ${event.message || "it cannot be started"}. Reset to go on.`);
  return made;
}

function send(request: Request): void {
  worker.postMessage(request);
}

function receive(message: Message): void {
  if (message.kind === "state") showState(message.state);
  else if (message.kind === "exit") vmxPanel.detail(message.detail);
  else if (message.kind === "loaded") {
    waiting.get(message.ticket)?.(message.error);
    waiting.delete(message.ticket);
  } else alertText(message.message);
}

/** Resolves with what is wrong, or undefined. */
function sendLoad(program: Program): Promise<string | undefined> {
  const mine = ++ticket;
  return new Promise((resolve) => {
    waiting.set(mine, resolve);
    send({ kind: "load", program, settings: settings(), ticket: mine });
  });
}

// --- panels ---

const editor = new ProgramEditor(byId("editor"), {
  changed: () => {
    edited = true;
    clearTimeout(editTimer);
    editTimer = window.setTimeout(afterEdit, EDIT_MS);
  },
  toggle: (line) => {
    const lines = new Set(editor.breakpoints);
    if (!lines.delete(line)) lines.add(line);
    editor.breakpoints = [...lines];
    sendBreakpoints();
  },
  load: () => void load(),
});
const registersPanel = new RegistersPanel();
const listingPanel = new ListingPanel((address) => toggleAddress(address));
const memoryPanel = new MemoryPanel((address) => send({ kind: "memory", address, rows: MEMORY_ROWS }));
const consolePanel = new ConsolePanel((text) => send({ kind: "input", text }));
const vmxPanel = new VmxPanel((id) => send({ kind: "exit", id }));
const ledgerPanel = new LedgerPanel(() => sendSettings());
const labPanel = new LabPanel(() => {
  const program = currentProgram();
  return program && { program, kernel: settings().kernel, cost: settings().cost };
});
const settings = (): MachineSettings => ({ ...controls.read(), cost: ledgerPanel.cost });
const tabs = initTabs(() => latest && showViews(latest));

function sendSettings(): void {
  vmxPanel.clear();
  controls.showUnder();
  send({ kind: "settings", settings: settings() });
}

// --- programs ---

function programOf(result: Assembly): Program {
  return {
    name: guestSelect.selectedOptions[0]?.dataset.name ?? "program",
    bytes: result.bytes,
    mode: START_MODES[result.mode],
    load: result.origin,
  };
}

/** What the laboratory runs; undefined while the source has errors. */
function currentProgram(): Program | undefined {
  if (work.kind === "binary") return work.program;
  const result = assembleSource();
  return result && programOf(result);
}

/** Assembles and marks the mistakes. undefined when there are any. */
function assembleSource(): Assembly | undefined {
  const result = assemble(editor.source);
  editor.showErrors(result.errors);
  const note = byId("editor-note");
  const [first] = result.errors;
  note.classList.toggle("bad", first !== undefined);
  if (first) {
    const more = result.errors.length > 1 ? ` (and ${result.errors.length - 1} more)` : "";
    note.replaceChildren(h("button", { type: "button", class: "link" }, `line ${first.line}: ${first.message}${more}`));
    note.firstElementChild!.addEventListener("click", () => editor.goTo(first.line));
    return undefined;
  }
  note.textContent =
    result.bytes.length === 0
      ? "empty"
      : `${number(result.bytes.length)} bytes at 0x${hex(result.origin)}, ${result.mode}-bit`;
  return result.bytes.length === 0 ? undefined : result;
}

function afterEdit(): void {
  const result = assembleSource();
  if (result && (latest === undefined || latest.status === "ready" || latest.status === "empty")) void load();
  else editor.showNext(undefined, false);
}

/** Puts what is being written or chosen into the machine. False: it is not fit, and the reader has been told. */
async function load(): Promise<boolean> {
  clearTimeout(editTimer);
  let program: Program;
  if (work.kind === "source") {
    const result = assembleSource();
    if (!result) {
      alertText("The program has mistakes: they are marked in the source.");
      return false;
    }
    assembly = result;
    program = programOf(result);
  } else program = work.program;
  edited = false;
  vmxPanel.clear();
  registersPanel.forget();
  ledgerPanel.forget();
  labPanel.forget();
  const error = await sendLoad(program);
  if (error !== undefined) {
    alertText(error);
    return false;
  }
  alertText("");
  sendBreakpoints();
  memoryPanel.go(program.load ?? 0x100000);
  return true;
}

async function openSource(source: string, lines: readonly number[] = []): Promise<void> {
  work = { kind: "source" };
  loose = new Set();
  showWork();
  editor.source = source;
  editor.breakpoints = lines;
  await load();
}

/** The guest before stays when this one cannot be loaded. */
async function openBinary(program: Program, guest?: string): Promise<boolean> {
  const before = work;
  work = { kind: "binary", program, ...(guest === undefined ? {} : { guest }) };
  loose = new Set();
  if (!(await load())) {
    work = before;
    return false;
  }
  showWork();
  return true;
}

function showWork(): void {
  const binary = byId("binary");
  byId("editor").hidden = work.kind === "binary";
  binary.hidden = work.kind === "source";
  byId("editor-title").textContent = work.kind === "binary" ? "Binary" : "Program";
  if (work.kind === "source") return;
  byId("editor-note").textContent = "";
  const { program, guest } = work;
  const description = binaries.find(({ name }) => name === guest)?.description;
  const card = binaryCard(program, description, {
    load: (other) => void openBinary(other),
    complain: alertText,
    write: () => {
      guestSelect.value = SOURCES[0]!.name;
      void openSource(SOURCES[0]!.source);
    },
  });
  binary.replaceChildren(...card);
}

// --- breakpoints ---

function lineAt(address: number): number | undefined {
  if (work.kind !== "source" || edited) return undefined;
  return assembly?.lines.find((line) => line.code && address >= line.address && address < line.address + line.length)
    ?.line;
}

function breakpointAddresses(): number[] {
  const lines = work.kind === "source" ? new Set(editor.breakpoints) : new Set<number>();
  const fromSource = (assembly?.lines ?? [])
    .filter(({ line, code }) => code && lines.has(line))
    .map(({ address }) => address);
  return [...new Set([...(work.kind === "source" ? fromSource : []), ...loose])];
}

function sendBreakpoints(): void {
  const addresses = breakpointAddresses();
  listingPanel.breakpoints = new Set(addresses);
  send({ kind: "breakpoints", addresses });
  if (latest) listingPanel.show(latest);
}

function toggleAddress(address: number): void {
  const line = lineAt(address);
  if (line !== undefined && assembly?.lines.some((one) => one.address === address && one.line === line)) {
    const lines = new Set(editor.breakpoints);
    if (!lines.delete(line)) lines.add(line);
    editor.breakpoints = [...lines];
  } else if (!loose.delete(address)) loose.add(address);
  sendBreakpoints();
}

// --- states ---

function showState(state: MachineState): void {
  latest = state;
  const running = state.status === "running";
  const lamp = byId("status");
  lamp.dataset.status = state.failed ? "failed" : state.status;
  byId("status-text").textContent = state.reason || "running";
  byId("mode-text").textContent = `${state.codeMode}-bit, CPL ${state.cpl}`;
  byId("count-text").textContent = `${number(state.count)} instruction${state.count === 1 ? "" : "s"}`;
  byId("speed-text").textContent = running && state.speed > 0 ? `${(state.speed / 1e6).toFixed(1)} MIPS` : "";
  byId("run-text").textContent = running ? "Pause" : "Run";
  byId("run").classList.toggle("running", running);
  byId<HTMLButtonElement>("run").disabled = state.status === "ended";
  byId<HTMLButtonElement>("step").disabled = running || state.status === "ended";
  byId<HTMLButtonElement>("back").disabled = running || state.count === 0;
  registersPanel.show(state);
  listingPanel.show(state);
  consolePanel.show(state);
  byId("listing-note").textContent = `RIP 0x${hex(state.rip)}`;
  if (work.kind === "source")
    editor.showNext(
      running ? undefined : lineAt(state.rip),
      !running && document.activeElement?.closest("#editor") === null,
    );
  showViews(state);
}

function showViews(state: MachineState): void {
  const running = state.status === "running";
  if (tabs.current === "vmx") vmxPanel.show(state.vmx, running);
  if (tabs.current === "memory") memoryPanel.show(state);
  // it remembers totals, shown or not
  ledgerPanel.show(state);
}

function alertText(text: string): void {
  byId("alert-text").textContent = text;
  byId("alert").hidden = text === "";
}

// --- actions ---

async function ready(): Promise<boolean> {
  return !edited || work.kind === "binary" || load();
}

const actions = {
  run: async () => {
    if (latest?.status === "running") send({ kind: "pause" });
    else if (await ready()) send({ kind: "run" });
  },
  step: async (times: number) => {
    if (await ready()) send({ kind: "step", times });
  },
  back: (times: number) => send({ kind: "back", times }),
  reset: async () => {
    vmxPanel.clear();
    registersPanel.forget();
    if (edited && work.kind === "source") await load();
    else send({ kind: "reset" });
  },
  tab: (name: string) => tabs.show(name),
  help: () => byId<HTMLDialogElement>("shortcuts").showModal(),
};

async function chooseGuest(name: string): Promise<void> {
  const source = SOURCES.find((guest) => guest.name === name);
  if (source) return openSource(source.source);
  const binary = binaries.find((guest) => guest.name === name);
  if (!binary) return;
  try {
    const program = await fetchGuest(binary);
    if (binary.under === "bare") controls.apply({ ...settings(), under: "bare" });
    await openBinary(program, binary.name);
  } catch (error) {
    alertText(`The guest cannot be fetched: ${error instanceof Error ? error.message : error}`);
  }
}

async function takeFile(file: File): Promise<void> {
  try {
    const opened = await openFile(file);
    guestSelect.value = "";
    if (opened.kind === "source") await openSource(opened.source);
    else await openBinary(opened.program);
  } catch (error) {
    alertText(error instanceof Error ? error.message : String(error));
  }
}

async function share(): Promise<void> {
  const common = { version: 1, settings: settings(), at: latest?.count ?? 0, tab: tabs.current } as const;
  let saved: SavedSession;
  if (work.kind === "source") saved = { ...common, source: editor.source, breakpoints: editor.breakpoints };
  else if (work.guest !== undefined) saved = { ...common, guest: work.guest, breakpoints: [...loose] };
  else {
    const { name, bytes, mode, load } = work.program;
    saved = {
      ...common,
      binary: {
        name,
        base64: toBase64(bytes),
        ...(mode === undefined ? {} : { mode }),
        ...(load === undefined ? {} : { load }),
      },
      breakpoints: [...loose],
    };
  }
  const fragment = await encodeSession(saved);
  if (fragment.length > MAX_LINK) {
    alertText(
      `The program makes a link of ${number(fragment.length)} characters; ${number(MAX_LINK)} is the most that travels safely.`,
    );
    return;
  }
  history.replaceState(null, "", fragment);
  const button = byId("share");
  try {
    await navigator.clipboard.writeText(location.href);
    button.textContent = "Copied";
  } catch {
    button.textContent = "In the address bar";
  }
  setTimeout(() => {
    button.textContent = "Copy link";
  }, 2000);
}

async function restore(saved: SavedSession): Promise<void> {
  controls.apply(saved.settings);
  ledgerPanel.cost = saved.settings.cost;
  if (saved.tab) tabs.show(saved.tab);
  if (saved.source !== undefined) {
    guestSelect.value = SOURCES.find(({ source }) => source === saved.source)?.name ?? "";
    await openSource(saved.source, saved.breakpoints);
  } else if (saved.guest !== undefined) {
    guestSelect.value = saved.guest;
    await chooseGuest(saved.guest);
  } else if (saved.binary) {
    const { name, base64, mode, load } = saved.binary;
    guestSelect.value = "";
    const start = mode === undefined ? {} : { mode: mode as NonNullable<Program["mode"]> };
    await openBinary({ name, bytes: fromBase64(base64), ...start, ...(load === undefined ? {} : { load }) });
  }
  if (saved.source === undefined) loose = new Set(saved.breakpoints);
  sendBreakpoints();
  if (saved.at > 0) send({ kind: "goto", count: saved.at });
}

// --- start ---

function fillSelects(): void {
  const own = h("option", { value: "", hidden: true }, "your own");
  const written = h("optgroup", { label: "Programs to read and change" });
  for (const { name, title } of SOURCES) written.append(h("option", { value: name, "data-name": name }, title));
  guestSelect.append(own, written);
}

function listen(): void {
  // what scrolls can be reached with the keyboard
  for (const id of ["registers", "console"]) byId(id).tabIndex = 0;
  byId("run").addEventListener("click", () => void actions.run());
  byId("step").addEventListener("click", () => void actions.step(1));
  byId("back").addEventListener("click", () => actions.back(1));
  byId("reset").addEventListener("click", () => void actions.reset());
  byId("help").addEventListener("click", actions.help);
  byId("share").addEventListener("click", () => void share());
  byId("alert-close").addEventListener("click", () => alertText(""));
  guestSelect.addEventListener("change", () => void chooseGuest(guestSelect.value));
  controls.listen((under) => {
    if (under) ledgerPanel.forget();
    sendSettings();
  });
  const file = byId<HTMLInputElement>("file");
  byId("open").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    const [first] = file.files ?? [];
    if (first) void takeFile(first);
    file.value = "";
  });
  const drop = byId("drop");
  const carriesFile = (event: DragEvent): boolean => event.dataTransfer?.types.includes("Files") ?? false;
  window.addEventListener("dragover", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    drop.hidden = false;
  });
  window.addEventListener("dragleave", (event) => {
    if (event.relatedTarget === null) drop.hidden = true;
  });
  window.addEventListener("drop", (event) => {
    if (!carriesFile(event)) return;
    event.preventDefault();
    drop.hidden = true;
    const [first] = event.dataTransfer?.files ?? [];
    if (first) void takeFile(first);
  });
  window.addEventListener("hashchange", () => void openLink());
  initShortcuts(actions);
  initTheme(byId("theme"), () => vmxPanel.recolour());
}

/** True when the address carries a session, good or not. */
async function openLink(): Promise<boolean> {
  try {
    const saved = await decodeSession(location.hash);
    if (!saved) return false;
    await restore(saved);
  } catch (error) {
    await openSource(SOURCES[0]!.source);
    alertText(error instanceof Error ? error.message : String(error));
  }
  return true;
}

async function start(): Promise<void> {
  fillSelects();
  listen();
  controls.showUnder();
  try {
    binaries = await binaryGuests();
    const group = h("optgroup", { label: "Binaries" });
    for (const { name } of binaries) group.append(h("option", { value: name, "data-name": name }, name));
    guestSelect.append(group);
  } catch {
    // without them the page is still whole
  }
  if (!(await openLink())) {
    guestSelect.value = SOURCES[0]!.name;
    await openSource(SOURCES[0]!.source);
  }
  document.documentElement.dataset.ready = "";
}

void start();
