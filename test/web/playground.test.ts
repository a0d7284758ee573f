// The playground as built, in Debian's Chromium. WASM_VMX_CHROMIUM names another one; without any the tests are skipped.
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Browser, chromium, type Page } from "playwright-core";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { buildPlayground, serve } from "../../web/build.mjs";

const EXECUTABLE = process.env.WASM_VMX_CHROMIUM ?? "/usr/bin/chromium";
const found = existsSync(EXECUTABLE);
if (!found) console.warn(`playground tests skipped: there is no ${EXECUTABLE} (apt-get install chromium)`);

let folder: string;
let server: Server;
let browser: Browser;
let origin: string;
let page: Page;
const complaints: string[] = [];

interface Look {
  readonly width?: number;
  readonly height?: number;
  readonly dark?: boolean;
  readonly fragment?: string;
}

async function open({ width = 1360, height = 860, dark = false, fragment = "" }: Look = {}): Promise<Page> {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: dark ? "dark" : "light",
    permissions: ["clipboard-read", "clipboard-write"],
  });
  page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => message.type() === "error" && complaints.push(message.text()));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(origin) && !url.startsWith("data:")) complaints.push(`asks for ${url}`);
  });
  await page.goto(`${origin}/${fragment}`);
  await page.waitForSelector("html[data-ready]");
  return page;
}

const text = (selector: string): Promise<string | null> => page.textContent(selector);
const status = (...wanted: string[]) =>
  page.waitForSelector(wanted.map((one) => `#status[data-status=${one}]`).join(", "));
const count = async (): Promise<number> => Number((await text("#count-text"))!.replace(/[^0-9]/g, ""));
const register = (name: string): Promise<string> =>
  page
    .locator(".register", { has: page.locator(`dt:text-is("${name}")`) })
    .locator("dd")
    .innerText();

async function guest(name: string): Promise<void> {
  await page.selectOption("#guest", name);
  await page.waitForSelector(`#count-text:text-is("0 instructions")`);
}

/** Replaces the program and waits until it is loaded. */
async function program(source: string): Promise<void> {
  await page.click(".cm-content");
  await page.keyboard.press("Control+a");
  await page.keyboard.insertText(source);
  await page.keyboard.press("Control+Enter");
}

async function drop(name: string, bytes: readonly number[]): Promise<void> {
  const transfer = await page.evaluateHandle(
    ([file, data]) => {
      const made = new DataTransfer();
      made.items.add(new File([Uint8Array.from(data as number[])], file as string));
      return made;
    },
    [name, [...bytes]] as const,
  );
  await page.dispatchEvent("body", "drop", { dataTransfer: transfer });
}

describe.skipIf(!found)("the playground", () => {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "wasm-vmx-web-"));
    // under a path of its own, as on a static host
    await buildPlayground(join(folder, "some", "where"));
    server = await serve(folder, 0);
    origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}/some/where`;
    browser = await chromium.launch({ executablePath: EXECUTABLE, args: ["--no-sandbox"] });
  }, 120_000);
  afterAll(async () => {
    await browser?.close();
    server?.close();
    if (folder) rmSync(folder, { recursive: true });
  });
  afterEach(async () => {
    await page?.context().close();
    expect(complaints.splice(0)).toEqual([]);
  });

  it("carries the licences of what it is made of", () => {
    const text = readFileSync(join(folder, "some", "where", "licences.txt"), "utf8");
    for (const name of ["wasm-vmx", "@codemirror/view", "@codemirror/state"]) expect(text).toContain(name);
    expect(text.match(/Permission is hereby granted|Apache License/g)!.length).toBeGreaterThan(3);
  });

  it("runs the guest it opens with", async () => {
    await open();
    await page.click("#run");
    await status("ended");
    expect(await text("#console")).toBe("Hello from long mode\n1 + 2 + ... + 100 = 5050\n");
    expect(await text("#status-text")).toBe("ended with status 0");
  });

  it("steps, marks what changed, and steps back to the same registers", async () => {
    await open();
    await program("bits 64\nmov eax, 7\nmov ebx, 5\nadd eax, ebx\nhlt");
    await page.waitForSelector("#editor-note:text('13 bytes')");
    await page.click("#step");
    await page.click("#step");
    await page.waitForSelector('#count-text:text-is("2 instructions")');
    expect([await register("rax"), await register("rbx")]).toEqual(["0000000000000007", "0000000000000005"]);
    expect(await page.locator(".register.changed dt").allInnerTexts()).toEqual(["rbx", "rip"]);
    expect(await text(".cm-next-line")).toBe("add eax, ebx");
    expect(await text(".instruction.next .text")).toBe("add eax, ebx");
    await page.click("#step");
    await page.waitForSelector('#count-text:text-is("3 instructions")');
    expect(await register("rax")).toBe("000000000000000c");
    await page.click("#back");
    await page.waitForSelector('#count-text:text-is("2 instructions")');
    expect(await register("rax")).toBe("0000000000000007");
    await page.keyboard.press("F9");
    await page.keyboard.press("F9");
    await page.waitForSelector('#count-text:text-is("0 instructions")');
    expect([await register("rax"), await register("rbx")]).toEqual(["0000000000000000", "0000000000000000"]);
  });

  it.each(["kvm", "bare"])("stops at breakpoints set in the source and in the disassembly: %s", async (under) => {
    await open();
    await page.click(`#under label:has([value=${under}])`);
    await program("bits 64\nxor ecx, ecx\nagain: inc ecx\nnop\njmp again");
    await page.waitForSelector("#editor-note:text('bytes')");
    await page.click(".cm-line:nth-child(4)");
    await page.keyboard.press("F2");
    await page.click("#run");
    await page.waitForSelector("#status-text:text('breakpoint at 0x100004')");
    expect(await register("rcx")).toBe("0000000000000001");
    await page.click("#run");
    await page.waitForSelector('#count-text:text-is("5 instructions")');
    expect(await register("rcx")).toBe("0000000000000002");
    await page.click("#listing [data-address='1048580']");
    await page.click("#listing [data-address='1048581']");
    await page.click("#run");
    await page.waitForSelector("#status-text:text('breakpoint at 0x100005')");
    expect(await register("rcx")).toBe("0000000000000002");
  });

  it("shows a VM exit with its qualification and the VMCS fields that changed", async () => {
    await open();
    await guest("exits");
    await page.click("#run");
    await status("ended");
    expect(await text("#console")).toBe("GenuineIntel\n");
    await page.click(".exit-table .reason:text-is('MSR_WRITE')");
    await page.waitForSelector(".exit-detail h3:text('MSR_WRITE')");
    const detail = (await text(".exit-detail"))!;
    expect(detail).toContain("MSR 0x140");
    expect(detail).toContain("kvm_msr: msr_write 140 = 0x1");
    expect(await page.locator(".fields th").allInnerTexts()).toEqual(
      expect.arrayContaining(["GUEST_RIP", "VM_EXIT_REASON"]),
    );
    // an OUT of one byte to port 0xE9, string and REP: SDM table "Exit Qualification for I/O Instructions"
    await page.locator(".exit-table tr", { hasText: "REP OUTS to port 0xe9, 1 byte" }).first().click();
    await page.waitForSelector(".exit-detail dd:text-is('0xe90030')");
    expect(await page.locator(".exit-table tr.selected td").allInnerTexts()).toEqual([
      expect.any(String),
      "IO_INSTRUCTION",
      "REP OUTS to port 0xe9, 1 byte",
      "user space",
      expect.stringMatching(/^1000[0-9a-f]{2}$/),
      expect.any(String),
      "0/0",
      "",
    ]);
    // the timeline is drawn: a piece of the guest's colour in every column
    const greens = await page.evaluate(() => {
      const canvas = document.querySelector<HTMLCanvasElement>(".timeline canvas")!;
      const { data } = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, 40);
      let count = 0;
      for (let i = 0; i < data.length; i += 4)
        count += data[i + 1]! > data[i]! + 60 && data[i + 1]! > data[i + 2]! + 30 ? 1 : 0;
      return count;
    });
    expect(greens).toBeGreaterThan(23 * 30);
    await page.focus(".timeline");
    await page.keyboard.press("ArrowRight");
    await page.waitForSelector(".exit-table tr.selected + tr");
    expect(await text(".fact.virtual b")).toBe("1");
  });

  it("runs again under another policy and shows another ledger", async () => {
    await open();
    await guest("faulting");
    await page.click("#run");
    await status("ended");
    await page.click("#tab-ledger");
    const upstream = await text("[data-total]");
    const before = await count();
    await page.selectOption("#policy", "always-hardware");
    await page.waitForSelector(".total b:text-is('always-hardware')");
    await page.waitForSelector(".others caption:text('Totals at instruction')");
    expect(await count()).toBe(before);
    expect(await text("[data-total]")).not.toBe(upstream);
    await page.click("#tab-vmx");
    // two writes a load that enters the guest while the guest's bit is on and the host's off, one for the load of the WRMSR
    const facts = await page.locator(".fact").allInnerTexts();
    const of = (name: string) =>
      Number(
        facts
          .find((fact) => fact.startsWith(name))!
          .replace(/^.*?([0-9,]+)$/s, "$1")
          .replace(",", ""),
      );
    expect(of("Policy's WRMSRs")).toBe(2 * (of("To user space") - 1));
    // eight CPUIDs fault in the hardware and no longer exit
    expect(await page.locator(".exit-table .reason", { hasText: /^CPUID$/ }).count()).toBe(0);
  });

  it.each(["kvm", "bare"])("gives console input to the guest: %s", async (under) => {
    await open();
    await page.click(`#under label:has([value=${under}])`);
    await guest("echo");
    await page.click("#run");
    await page.waitForSelector("#console:has-text('Type something:')");
    await page.fill("#console-input", "hello");
    await page.keyboard.press("Enter");
    await page.waitForSelector("#console:has-text('HELLO')");
    // the input is part of what is run again
    await page.click("#run");
    await status("paused");
    const at = await count();
    const before = await text("#count-text");
    await page.click("#back");
    await page.waitForFunction((old) => document.querySelector("#count-text")!.textContent !== old, before);
    await status("paused");
    expect(await count()).toBe(at - 1);
    expect(await text("#console")).toContain("HELLO");
    await page.fill("#console-input", "q");
    await page.keyboard.press("Enter");
    await page.click("#run");
    await status("ended");
  });

  it("compares all policies for the program in the editor", async () => {
    await open();
    await guest("faulting");
    await page.click("#tab-lab");
    await page.click("#compare");
    await page.waitForSelector(".lab-table");
    expect(await page.locator(".lab-table tbody tr").count()).toBe(10);
    expect(await page.getAttribute(".plot", "aria-label")).toMatch(/costs are equal at/);
    // the thread's numbers: 250 to 300 cycles a trip against 1000 an exit
    expect(await text(".lab")).toContain("the break-even is at 0.250–0.300");
  });

  it("refuses files that are no guest, says why, and keeps the guest", async () => {
    await open();
    await drop("cat.png", [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a]);
    await page.waitForSelector("#alert-text:text-is('cat.png is a PNG picture.')");
    await drop("cut.elf", [0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0]);
    await page.waitForSelector("#alert-text:text('ELF')");
    await drop("nothing.bin", []);
    await page.waitForSelector("#alert-text:text-is('nothing.bin is empty.')");
    await page.click("#alert-close");
    expect(await page.isVisible("#alert")).toBe(false);
    await page.click("#run");
    await status("ended");
    expect(await text("#console")).toContain("5050");
  });

  it("runs a binary that is dropped", async () => {
    await open();
    // mov al, 'A'; out 0xE9, al; xor eax, eax; out 0xF4, al
    await drop("own.bin", [0xb0, 0x41, 0xe6, 0xe9, 0x31, 0xc0, 0xe6, 0xf4]);
    await page.waitForSelector("#binary h3:text-is('own.bin')");
    await page.selectOption("#binary-mode", "real");
    await page.fill("#binary-load", "0x7c00");
    await page.click("text=Load so");
    await page.waitForSelector("#mode-text:text('16-bit')");
    await page.click("#run");
    await status("ended");
    expect(await text("#console")).toBe("A");
  });

  it("runs the fixtures' binaries", async () => {
    await open();
    await guest("app-start");
    await page.click("#run");
    await status("ended");
    expect(await text("#console")).toContain("app-start: cpuids 5, faults 5, outs 2000, checksum 8E9433C5");
    await guest("hypervisor");
    await page.click("#run");
    await status("ended");
    expect(await text("#console")).toContain("VMXOFF");
    // it prints a line an exit
    const lines = (await text("#console"))!.split("\n").filter((line) => line.startsWith("exit "));
    expect(await page.locator(".fact", { hasText: "VM exits" }).locator("b").innerText()).toBe(String(lines.length));
    expect(await page.locator(".exit-table tbody tr").count()).toBe(lines.length);
  });

  it("stays alive while a guest runs for ever", async () => {
    await open();
    await guest("forever");
    await page.click("#run");
    await status("running");
    // the page draws, takes clicks and shows new states while the guest runs
    await page.evaluate(() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve))));
    await page.click("#tab-memory");
    await page.waitForSelector(".dump-row");
    const first = await text("#count-text");
    await page.waitForFunction((before) => document.querySelector("#count-text")!.textContent !== before, first);
    await page.click("#run");
    await page.waitForSelector("#status-text:text-is('paused by hand')");
    const paused = await count();
    await page.click("#step");
    await page.waitForFunction(
      (before) => document.querySelector("#count-text")!.textContent !== before,
      await text("#count-text").then(() => `${paused.toLocaleString("en")} instructions`),
    );
    expect(await count()).toBe(paused + 1);
  });

  it("carries the whole session in a link", async () => {
    await open();
    await program("bits 32\nagain: inc eax\nnop\njmp again ; ünïcode");
    await page.waitForSelector("#editor-note:text('bytes')");
    await page.click(".cm-line:nth-child(3)");
    await page.keyboard.press("F2");
    await page.selectOption("#policy", "clear-host");
    await page.selectOption("#host", "1");
    await page.focus("#run");
    await page.keyboard.press("Shift+F10");
    await page.waitForSelector('#count-text:text-is("100 instructions")');
    await page.click("#tab-ledger");
    await page.click("#share");
    await page.waitForFunction(() => location.hash.startsWith("#s="));
    const fragment = await page.evaluate(() => location.hash);
    const eax = await register("eax");
    await page.context().close();
    await open({ fragment });
    await page.waitForSelector('#count-text:text-is("100 instructions")');
    expect(await register("eax")).toBe(eax);
    expect(await page.locator(".cm-line").nth(3).innerText()).toBe("jmp again ; ünïcode");
    expect(await page.locator(".breakpoint-dot:visible").count()).toBe(1);
    expect([await page.inputValue("#policy"), await page.inputValue("#host")]).toEqual(["clear-host", "1"]);
    expect(await page.getAttribute("#tab-ledger", "aria-selected")).toBe("true");
  });

  it("says that a link is damaged", async () => {
    await open({ fragment: "#s=AAAA" });
    await page.waitForSelector("#alert-text:text('damaged')");
    await page.click("#run");
    await status("ended");
  });

  it("marks mistakes in the source and runs nothing until they are gone", async () => {
    await open();
    await program("bits 64\nmov eax, [rbx");
    await page.waitForSelector("#editor-note:has-text('line 2')");
    expect(await page.locator(".cm-lintRange-error").count()).toBe(1);
    await page.focus("#step");
    await page.click("#step");
    await page.waitForSelector("#alert-text:text('mistakes')");
    expect(await count()).toBe(0);
  });

  it("can be used with the keyboard alone", async () => {
    await open();
    await page.keyboard.press("F10");
    await page.waitForSelector('#count-text:text-is("1 instruction")');
    await page.focus("#run");
    await page.keyboard.press("s");
    await page.waitForSelector('#count-text:text-is("2 instructions")');
    await page.keyboard.press("b");
    await page.waitForSelector('#count-text:text-is("1 instruction")');
    await page.keyboard.press("4");
    await page.waitForSelector("#view-memory:visible");
    await page.keyboard.press("?");
    await page.waitForSelector("#shortcuts[open]");
    await page.keyboard.press("Escape");
    await page.waitForSelector("#shortcuts:not([open])", { state: "attached" });
    await page.keyboard.press("x");
    await page.waitForSelector('#count-text:text-is("0 instructions")');
    // letters are letters where text is typed
    await page.focus("#console-input");
    await page.keyboard.type("sb");
    expect(await page.inputValue("#console-input")).toBe("sb");
    expect(await count()).toBe(0);
  });

  it.each([
    ["phone, light", 375, false],
    ["phone, dark", 375, true],
    ["tablet", 820, false],
    ["desktop, dark", 1360, true],
  ] as const)("fits the screen: %s", async (_name, width, dark) => {
    await open({ width, height: 800, dark });
    await guest("faulting");
    await page.click("#run");
    await status("ended");
    for (const tab of ["vmx", "ledger", "lab", "memory"]) {
      await page.click(`#tab-${tab}`);
      expect(await page.evaluate(() => document.documentElement.scrollWidth)).toBeLessThanOrEqual(width);
    }
    await page.click("#tab-vmx");
    await page.locator(".exit-table .reason", { hasText: "CPUID" }).first().click();
    await page.waitForSelector(".fields .after");
    // the values of a changed field are all there
    const over = await page.evaluate(() => {
      const edge = document.querySelector(".exit-detail")!.getBoundingClientRect().right;
      return [...document.querySelectorAll(".fields .after")].filter((e) => e.getBoundingClientRect().right > edge)
        .length;
    });
    if (width < 680) expect(over).toBe(0);
    const background = () => page.evaluate(() => getComputedStyle(document.body).backgroundColor);
    const [red = 0] = (await background()).match(/\d+/g)!.map(Number);
    expect(red < 128).toBe(dark);
    await page.click("#theme");
    const [other = 0] = (await background()).match(/\d+/g)!.map(Number);
    expect(other < 128).toBe(!dark);
  });
});
