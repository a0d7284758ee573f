// Runs a session: slices, steps, breakpoints, and the way back: from a keyframe before, or from the start where a session has
// none, by running again.
import { disassemble } from "../../src/disasm/index.ts";
import { checkImage, type GuestImage, parseImage, yieldToHost } from "../../src/machine/index.ts";
import { policyByName } from "../../src/policy/index.ts";
import { BareSession } from "./bare-session.ts";
import { Keyframes } from "./keyframes.ts";
import { KvmSession } from "./kvm-session.ts";
import type {
  ExitDetail,
  ListedInstruction,
  MachineSettings,
  MachineState,
  MemoryView,
  Program,
  Status,
} from "./protocol.ts";
import { generalRegisters, systemRegisters } from "./register-view.ts";
import type { Session } from "./session.ts";

const MEMORY = 16 << 20;
/** Between two looks at the mail. */
const SLICE_MS = 12;
const SLICE_WORK = 20_000;
/** Between two states while it runs. */
const REPORT_MS = 120;
const LISTED = 48;
/** A listing stays while the next instruction is among these lines. */
const LISTED_KEEP = 40;
/** Between two looks at the clock while it steps towards a breakpoint. */
const STEPS = 1000;
const CONSOLE_MAX = 1 << 20;

interface Input {
  readonly count: number;
  readonly bytes: Uint8Array;
}

export class Debugger {
  readonly #report: (state: MachineState) => void;
  #session: Session | undefined;
  #image: GuestImage | undefined;
  #settings: MachineSettings | undefined;
  #status: Status = "empty";
  #reason = "";
  #failed = false;
  #console: number[] = [];
  #reported = 0;
  #inputs: Input[] = [];
  #keyframes = new Keyframes();
  #breakpoints = new Set<number>();
  #memory = { address: 0, rows: 16 };
  #listFrom: number | undefined;
  #speed = 0;
  /** Rises whenever what runs must stop. */
  #turn = 0;
  /** Where a run on the way back is going. */
  #goal: number | undefined;

  constructor(report: (state: MachineState) => void) {
    this.#report = report;
  }

  /** Checks and loads a guest. GuestImageError and the like say what is wrong with it; the guest before stays then. */
  load(program: Program, settings: MachineSettings): void {
    const image = parseImage(program.bytes, {
      ...(program.mode === undefined ? {} : { mode: program.mode }),
      ...(program.load === undefined ? {} : { load: program.load }),
    });
    checkImage(image, MEMORY);
    this.#image = image;
    this.#settings = settings;
    this.#inputs = [];
    this.#restart();
    this.#report(this.state());
  }

  #make(): Session {
    const options = { console: (byte: number) => this.#put(byte) };
    const settings = this.#settings!;
    const image = this.#image!;
    return settings.under === "bare" ? new BareSession(image, options) : new KvmSession(image, settings, options);
  }

  #put(byte: number): void {
    this.#console.push(byte);
    if (this.#console.length <= 2 * CONSOLE_MAX) return;
    this.#console.splice(0, this.#console.length - CONSOLE_MAX);
    // they name places in it
    this.#keyframes = new Keyframes();
  }

  #restart(): void {
    this.#turn++;
    this.#goal = undefined;
    this.#console = [];
    this.#reported = 0;
    this.#keyframes = new Keyframes();
    this.#session = this.#make();
    this.#keyframes.pass(this.#session, 0);
    this.#status = "ready";
    this.#reason = "ready";
    this.#failed = false;
    this.#listFrom = undefined;
    this.#speed = 0;
  }

  reset(): void {
    if (!this.#image) return;
    this.#inputs = [];
    this.#restart();
    this.#report(this.state());
  }

  /** Other settings: the guest is run again to where it stood. */
  async change(settings: MachineSettings): Promise<void> {
    const before = this.#session?.count ?? 0;
    const ended = this.#status === "ended";
    const running = this.#status === "running";
    const moved = JSON.stringify({ ...settings, cost: "" }) !== JSON.stringify({ ...this.#settings, cost: "" });
    this.#settings = settings;
    if (!this.#image) return;
    if (!moved) {
      this.#report(this.state());
      return;
    }
    this.#restart();
    if (running || ended) await this.run();
    else await this.#replay(before);
  }

  setBreakpoints(addresses: readonly number[]): void {
    this.#breakpoints = new Set(addresses);
    if (this.#status === "running") this.#session?.breakAt?.(this.#breakpoints);
  }

  input(text: string): void {
    const session = this.#session;
    if (!session) return;
    const bytes = new TextEncoder().encode(text);
    // what came later in a time that was taken back is forgotten
    this.#inputs = this.#inputs.filter(({ count }) => count <= session.count);
    this.#inputs.push({ count: session.count, bytes });
    session.input(bytes);
  }

  look(address: number, rows: number): void {
    this.#memory = { address, rows };
    this.#report(this.state());
  }

  exit(id: number): ExitDetail | undefined {
    return this.#session?.vmx.detail(id);
  }

  pause(): void {
    if (this.#status !== "running") return;
    this.#turn++;
    this.#goal = undefined;
    this.#stand("paused by hand");
  }

  #stand(reason: string): void {
    const session = this.#session!;
    this.#status = session.ending ? "ended" : "paused";
    this.#reason = session.ending?.text ?? reason;
    this.#failed = session.ending?.failed ?? false;
    this.#report(this.state());
  }

  step(times: number): void {
    const session = this.#session;
    if (!session || this.#status === "running") return;
    const from = session.count;
    const work = 4 * times + SLICE_WORK;
    this.#guarded(() => session.advance(times, work));
    const done = session.count - from;
    this.#stand(
      done === 0 ? "the instruction goes on: it is a long one" : `stepped ${done} instruction${done === 1 ? "" : "s"}`,
    );
  }

  /** An error of the emulator itself ends the run with its message. */
  #guarded(body: () => void): void {
    try {
      body();
    } catch (error) {
      const session = this.#session! as { ending: { text: string; failed: boolean } };
      session.ending = { text: error instanceof Error ? error.message : String(error), failed: true };
    }
  }

  async run(): Promise<void> {
    const session = this.#session;
    if (!session || this.#status === "running" || session.ending) return;
    this.#status = "running";
    this.#reason = "";
    const turn = ++this.#turn;
    let hit = false;
    const first = session.count;
    session.breakAt?.(this.#breakpoints);
    const stepping = session.breakAt === undefined && this.#breakpoints.size > 0;
    await this.#slices(turn, () => {
      if (!stepping) {
        session.advance(Number.MAX_SAFE_INTEGER - session.count, SLICE_WORK);
        hit = session.atBreakpoint === true;
        return !hit;
      }
      for (let i = 0; i < STEPS && !session.ending; i++) {
        if (session.count !== first && this.#breakpoints.has(session.rip)) {
          hit = true;
          return false;
        }
        session.advance(1, SLICE_WORK);
      }
      return true;
    });
    // steps and the way back go over them
    session.breakAt?.(new Set());
    if (turn === this.#turn) this.#stand(hit ? `breakpoint at 0x${session.rip.toString(16)}` : "paused");
  }

  /** Calls `work` until it says false or the guest ends, and lets the page's messages in between. */
  async #slices(turn: number, work: () => boolean): Promise<void> {
    const session = this.#session!;
    let reported = performance.now();
    let lastCount = session.count;
    for (;;) {
      const begun = performance.now();
      let more = true;
      while (more && !session.ending && performance.now() - begun < SLICE_MS) {
        this.#guarded(() => {
          more = work();
          if (more) this.#keyframes.pass(session, this.#console.length);
        });
      }
      if (!more || session.ending) return;
      await yieldToHost();
      if (turn !== this.#turn) return;
      const now = performance.now();
      if (now - reported > REPORT_MS) {
        this.#speed = ((session.count - lastCount) * 1000) / (now - reported);
        lastCount = session.count;
        this.#report(this.state());
        reported = performance.now();
      }
    }
  }

  /** Goes back by running again from a place before: the machine is deterministic, input included. */
  async back(times: number): Promise<void> {
    const session = this.#session;
    if (!session || this.#status === "empty") return;
    // on the way back already: further back than that
    if (this.#status === "running" && this.#goal === undefined) return;
    const target = Math.max(0, (this.#goal ?? session.count) - times);
    const listFrom = this.#listFrom;
    this.#goBefore(target);
    this.#listFrom = listFrom;
    await this.#replay(target);
  }

  async goTo(count: number): Promise<void> {
    if (!this.#image) return;
    this.#goBefore(count);
    await this.#replay(count);
  }

  /** To the last keyframe at or before that instruction, or to the start. */
  #goBefore(count: number): void {
    const session = this.#session!;
    const frame = session.goBack ? this.#keyframes.before(count) : undefined;
    if (!frame) {
      this.#restart();
      return;
    }
    this.#turn++;
    session.goBack!(frame.mark);
    this.#console.length = frame.console;
    this.#reported = 0;
    this.#status = "paused";
    this.#failed = false;
    this.#speed = 0;
  }

  async #replay(target: number): Promise<void> {
    const session = this.#session!;
    this.#status = "running";
    this.#reason = `running again to instruction ${target.toLocaleString("en")}`;
    this.#goal = target;
    const turn = ++this.#turn;
    // what came at this count or later comes again
    const begun = session.count;
    const inputs = this.#inputs.filter(({ count }) => count >= begun);
    await this.#slices(turn, () => {
      const next = inputs[0];
      if (next && next.count <= session.count) {
        session.input(next.bytes);
        inputs.shift();
        return true;
      }
      const goal = Math.min(target, next?.count ?? target);
      if (session.count >= target) return false;
      session.advance(goal - session.count, SLICE_WORK);
      return true;
    });
    if (turn !== this.#turn) return;
    this.#goal = undefined;
    this.#stand(session.count === 0 ? "at the start" : `at instruction ${session.count.toLocaleString("en")}`);
  }

  #bytes(address: number, size: number): (number | undefined)[] {
    const session = this.#session!;
    return Array.from({ length: size }, (_, i) => session.read(address + i));
  }

  #list(from: number): ListedInstruction[] {
    const mode = this.#session!.codeMode;
    const window = this.#bytes(from, LISTED * 8);
    const end = window.indexOf(undefined);
    const bytes = Uint8Array.from(end < 0 ? (window as number[]) : (window.slice(0, end) as number[]));
    const lines: ListedInstruction[] = [];
    for (let at = 0; at < bytes.length && lines.length < LISTED; ) {
      const { length, text, valid } = disassemble(bytes.subarray(at), { mode, address: BigInt(from + at) });
      const size = valid ? length : 1;
      const shown = valid ? text : `db 0x${bytes[at]!.toString(16).padStart(2, "0")}`;
      const hex = Array.from(bytes.subarray(at, at + size), (byte) => byte.toString(16).padStart(2, "0")).join(" ");
      lines.push({ address: from + at, bytes: hex, text: shown });
      at += size;
    }
    return lines;
  }

  #listing(): ListedInstruction[] {
    const { rip } = this.#session!;
    if (this.#listFrom !== undefined) {
      const lines = this.#list(this.#listFrom);
      const at = lines.findIndex(({ address }) => address === rip);
      if (at >= 0 && at < LISTED_KEEP) return lines;
    }
    this.#listFrom = rip;
    return this.#list(rip);
  }

  #memoryView(): MemoryView {
    const { address, rows } = this.#memory;
    return { address, bytes: this.#session ? this.#bytes(address, rows * 16) : [] };
  }

  state(): MachineState {
    const session = this.#session!;
    const registers = session.registers();
    const { codeMode } = session;
    const from = this.#reported;
    const text = this.#console.slice(from);
    this.#reported = this.#console.length;
    const settings = this.#settings!;
    const inGuest = session instanceof KvmSession && session.inGuest;
    return {
      status: this.#status,
      reason: this.#reason,
      failed: this.#failed,
      count: session.count,
      speed: this.#status === "running" ? this.#speed : 0,
      codeMode,
      cpl: session.cpl,
      rip: session.rip,
      general: generalRegisters(registers, codeMode),
      system: systemRegisters(registers),
      rflags: registers.rflags,
      listing: this.#listing(),
      memory: this.#memoryView(),
      console: String.fromCharCode(...text.slice(-CONSOLE_MAX / 16)),
      consoleFrom: from,
      vmx: session.vmx.view(settings.cost, settings.hostValue, inGuest, policyByName(settings.policy)),
    };
  }
}
