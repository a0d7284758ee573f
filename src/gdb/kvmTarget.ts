// vCPUs of a KVM guest as GDB sees them: a thread each, debugged with KVM_SET_GUEST_DEBUG as QEMU does.
import type { CodeMode } from "../core/index.ts";
import {
  KVM_GUESTDBG_ENABLE,
  KVM_GUESTDBG_INJECT_BP,
  KVM_GUESTDBG_SINGLESTEP,
  KVM_GUESTDBG_USE_HW_BP,
  KVM_GUESTDBG_USE_SW_BP,
  KvmError,
  type KvmExit,
  type Vcpu,
} from "../kvm/index.ts";
import { type RegisterUpdate, type RegisterValues, yieldToHost } from "../machine/index.ts";
import { formatTraceEvent, type TraceEvent } from "../trace/index.ts";
import { registerValues, updateRegisters } from "./kvmRegisters.ts";
import { lastPoint } from "./kvmSearch.ts";
import { type KvmGuest, type Place, Timeline } from "./kvmTimeline.ts";
import { type GdbTarget, type MonitorCommand, MonitorError, type Point, type Resume, type Stop } from "./target.ts";

const SIGTRAP = 5;
const SIGABRT = 6;
const DB_VECTOR = 1;
const INT3 = 0xcc;
const DR6_BS = 0x4000n;
/** Bit 10, which is always 1, and exact breakpoints. */
const DR7_EXACT = 0x600n;
const BREAKPOINTS = 4;
/** Instructions of one vCPU before the next one has its turn. */
const TURN = 20_000n;
const TURN_MS = 10;
const HISTORY = 1000;
const PAGE = 4096n;

const NO_WAY_BACK = "nothing is recorded, so there is no way back (wasm-vmx gdb records unless --no-record is given)";

export interface KvmTargetOptions extends KvmGuest {
  /** The same guest at its beginning, made anew. Going back is running it again; without this there is no way back. */
  readonly again?: () => KvmGuest;
}

/** R/W and LEN of DR7. @sdm 3B "Debug Control Register (DR7)" */
const ACCESS = { hardware: 0n, write: 1n, access: 3n } as const;
const LENGTHS: Readonly<Record<number, bigint>> = { 1: 0n, 2: 1n, 4: 3n, 8: 2n };

function debugRegisters(points: readonly Point[]): bigint[] {
  const registers: bigint[] = Array.from({ length: 8 }, (_, i) => (i === 7 ? DR7_EXACT : 0n));
  points.forEach(({ kind, address, size }, i) => {
    registers[i] = address;
    const access = ACCESS[kind as keyof typeof ACCESS];
    registers[7]! |= (2n << BigInt(2 * i)) | (access << BigInt(16 + 4 * i)) | (LENGTHS[size]! << BigInt(18 + 4 * i));
  });
  return registers;
}

/** A KVM guest for a GdbSession. Software breakpoints are INT3 in memory, at most four others are in the debug registers. */
export class KvmTarget implements GdbTarget {
  readonly threads: readonly number[];
  ended: Stop | undefined;
  #guest: KvmGuest;
  readonly #again: KvmTargetOptions["again"];
  #timeline = new Timeline();
  /** Instructions of all vCPUs, as far as the guest ever came. */
  #furthest = 0n;
  readonly #halted = new Set<number>();
  #hardware: Point[] = [];
  #int3s: Point[] = [];
  /** What INT3 stands for, by guest-physical address, and for how many points. */
  readonly #software = new Map<bigint, { readonly byte: number; readonly points: number }>();
  #history: { readonly number: number; readonly text: string }[] = [];
  #events = 0;

  constructor({ vcpus, onExit, again }: KvmTargetOptions) {
    this.#guest = { vcpus, onExit };
    this.#again = again;
    this.threads = vcpus.map((_, i) => i + 1);
    this.#listen(this.#guest);
  }

  #listen({ vcpus }: KvmGuest): void {
    const { host } = vcpus[0]!.vmx;
    const before = host.trace;
    host.trace = (event) => {
      before?.(event);
      this.#remember(event);
    };
  }

  #remember(event: TraceEvent): void {
    this.#history.push({ number: this.#events++, text: formatTraceEvent(event, this.#vcpu(1).vmx.vm.rules.version) });
    if (this.#history.length > HISTORY) this.#history.shift();
  }

  #vcpu(thread: number): Vcpu {
    const vcpu = this.#guest.vcpus[thread - 1];
    if (vcpu === undefined) throw new RangeError(`there is no thread ${thread}`);
    return vcpu;
  }

  threadName(thread: number): string {
    const { ss } = this.#vcpu(thread).getSregs();
    const halted = this.#halted.has(thread) ? ", halted" : "";
    return `vCPU ${thread - 1}, ${this.codeMode(thread)}-bit code, CPL ${ss.dpl}${halted}`;
  }

  codeMode(thread: number): CodeMode {
    const { cs } = this.#vcpu(thread).getSregs();
    return cs.l ? 64 : cs.db ? 32 : 16;
  }

  readRegisters(thread: number): RegisterValues {
    const vcpu = this.#vcpu(thread);
    return registerValues(vcpu.getRegs(), vcpu.getSregs(), vcpu.getDebugRegs());
  }

  writeRegisters(thread: number, update: RegisterUpdate): void {
    try {
      updateRegisters(this.#vcpu(thread), update);
    } catch (error) {
      if (error instanceof KvmError) throw new RangeError(error.message, { cause: error });
      throw error;
    }
    this.#changed(({ vcpus }) => updateRegisters(vcpus[thread - 1]!, update));
  }

  /** Another future begins here. */
  #changed(change: (guest: KvmGuest) => void): void {
    if (this.#again !== undefined) this.#timeline.changed(change);
    this.#furthest = 0n;
  }

  readMsr(thread: number, index: number): bigint | undefined {
    return this.#vcpu(thread).getMsrs([index])[0]?.data;
  }

  writeMsr(thread: number, index: number, data: bigint): boolean {
    const done = this.#vcpu(thread).setMsrs([{ index, data }]) === 1;
    if (done) this.#changed(({ vcpus }) => void vcpus[thread - 1]!.setMsrs([{ index, data }]));
    return done;
  }

  translate(thread: number, linear: bigint): bigint | undefined {
    return this.#vcpu(thread).translate(linear);
  }

  readLinear(thread: number, linear: bigint, size: number): Uint8Array | undefined {
    const physical = this.translate(thread, linear);
    return physical === undefined ? undefined : this.readPhysical(physical, size);
  }

  /** Guest memory without the debugger's INT3. */
  readPhysical(address: bigint, size: number): Uint8Array | undefined {
    const found = this.#vcpu(1).vmx.vm.slots.read(address, size);
    if (found === undefined) return undefined;
    const bytes = found.slice();
    for (const [at, { byte }] of this.#software) {
      if (at >= address && at < address + BigInt(size)) bytes[Number(at - address)] = byte;
    }
    return bytes;
  }

  writeLinear(thread: number, linear: bigint, bytes: Uint8Array): boolean {
    const parts: { readonly physical: bigint; readonly bytes: Uint8Array }[] = [];
    for (let offset = 0; offset < bytes.length; ) {
      const at = linear + BigInt(offset);
      const n = Math.min(bytes.length - offset, Number(PAGE - (at & (PAGE - 1n))));
      const physical = this.translate(thread, at);
      if (physical === undefined || this.readPhysical(physical, n) === undefined) return false;
      parts.push({ physical, bytes: bytes.slice(offset, offset + n) });
      offset += n;
    }
    for (const part of parts) {
      const { physical } = part;
      const written = part.bytes.slice();
      this.#changed(({ vcpus }) => vcpus[0]!.vmx.vm.slots.write(physical, written));
      this.#writePhysical(physical, part.bytes);
    }
    return true;
  }

  /** Under an INT3 the byte is kept for later. */
  #writePhysical(address: bigint, bytes: Uint8Array): void {
    for (const [at, { points }] of this.#software) {
      if (at < address || at >= address + BigInt(bytes.length)) continue;
      const offset = Number(at - address);
      this.#software.set(at, { byte: bytes[offset]!, points });
      bytes[offset] = INT3;
    }
    this.#vcpu(1).vmx.vm.slots.write(address, bytes);
  }

  // --- points ---

  insert(point: Point): boolean {
    if (point.kind === "software") return this.#insertInt3(point.address);
    // the processor has no watchpoint for reads alone
    if (point.kind === "read" || this.#hardware.length === BREAKPOINTS) return false;
    const length = LENGTHS[point.size];
    if (length === undefined || (point.address & BigInt(point.size - 1)) !== 0n) return false;
    this.#hardware = [...this.#hardware, point];
    return true;
  }

  #insertInt3(address: bigint): boolean {
    const physical = this.translate(1, address);
    const byte = physical === undefined ? undefined : this.readPhysical(physical, 1)?.[0];
    if (physical === undefined || byte === undefined) return false;
    const points = (this.#software.get(physical)?.points ?? 0) + 1;
    this.#software.set(physical, { byte, points });
    this.#vcpu(1).vmx.vm.slots.write(physical, Uint8Array.of(INT3));
    this.#int3s.push({ kind: "software", address, size: 1 });
    return true;
  }

  remove({ kind, address, size }: Point): void {
    if (kind !== "software") {
      const at = this.#hardware.findIndex((p) => p.kind === kind && p.address === address && p.size === size);
      this.#hardware = this.#hardware.filter((_, i) => i !== at);
      return;
    }
    const known = this.#int3s.findIndex((point) => point.address === address);
    if (known >= 0) this.#int3s.splice(known, 1);
    const physical = this.translate(1, address);
    const entry = physical === undefined ? undefined : this.#software.get(physical);
    if (physical === undefined || entry === undefined) return;
    if (entry.points > 1) {
      this.#software.set(physical, { ...entry, points: entry.points - 1 });
      return;
    }
    this.#software.delete(physical);
    this.#vcpu(1).vmx.vm.slots.write(physical, Uint8Array.of(entry.byte));
  }

  // --- running ---

  async resume(how: Resume, signal: AbortSignal): Promise<Stop> {
    const stop = how.reverse ? await this.#back(how, signal) : await this.#run(how, signal);
    if (!how.reverse) this.ended = stop.kind === "end" ? stop : undefined;
    return stop;
  }

  // --- going back ---

  /** Instructions of all vCPUs. */
  get #count(): bigint {
    return this.#guest.vcpus.reduce((sum, { vmx }) => sum + vmx.instructions, 0n);
  }

  async #back({ step, run }: Resume, signal: AbortSignal): Promise<Stop> {
    const again = this.#again;
    const thread = step ?? run[0] ?? 1;
    if (again === undefined) return { kind: "beginning", thread, message: NO_WAY_BACK };
    if (step !== undefined) return this.#stepBack(again, step, signal);
    const found = await lastPoint(this.#timeline, again(), [...this.#int3s, ...this.#hardware], signal);
    if (found === "interrupted") return { kind: "interrupt", thread };
    const to = (place: Place | undefined, stop: Stop) => this.#goTo(again(), this.#timeline.upTo(place), signal, stop);
    if (found === undefined) return to(undefined, { kind: "beginning", thread });
    const { place, point } = found;
    const { kind, address } = point;
    const met = this.#timeline.threadAt(place);
    const stop: Stop =
      kind === "software" || kind === "hardware"
        ? { kind: "breakpoint", thread: met, point: kind }
        : { kind: "watchpoint", thread: met, point: kind, address };
    return to(place, stop);
  }

  async #stepBack(again: () => KvmGuest, thread: number, signal: AbortSignal): Promise<Stop> {
    const timeline = this.#timeline;
    const now = this.#vcpu(thread).vmx.instructions;
    if (timeline.inside) {
      return this.#goTo(again(), timeline.upTo(timeline.before(thread, 0n)), signal, { kind: "step", thread });
    }
    for (let back = 1n; ; back++) {
      const place = timeline.before(thread, back);
      if (place === undefined) return { kind: "beginning", thread };
      const stop = await this.#goTo(again(), timeline.upTo(place), signal, { kind: "step", thread });
      // a place where nothing can stop
      if (stop.kind === "step" && this.#vcpu(thread).vmx.instructions >= now) continue;
      return stop;
    }
  }

  /** A guest at its beginning takes the place of this one, once it has come to the place. */
  async #goTo(guest: KvmGuest, timeline: Timeline, signal: AbortSignal, stop: Stop): Promise<Stop> {
    const before = { history: this.#history, events: this.#events };
    this.#history = [];
    this.#events = 0;
    this.#listen(guest);
    if (!(await timeline.replay(guest, signal))) {
      this.#history = before.history;
      this.#events = before.events;
      return { kind: "interrupt", thread: stop.thread };
    }
    if (this.#count > this.#furthest) this.#furthest = this.#count;
    const points = this.#int3s;
    this.#int3s = [];
    this.#software.clear();
    this.#halted.clear();
    this.#guest = guest;
    this.#timeline = timeline;
    this.ended = undefined;
    for (const { address } of points) this.#insertInt3(address);
    return stop;
  }

  // --- forth ---

  #debug(vcpu: Vcpu, step: boolean, more = 0): void {
    const hardware = this.#hardware.length === 0 ? 0 : KVM_GUESTDBG_USE_HW_BP;
    const software = this.#software.size === 0 ? 0 : KVM_GUESTDBG_USE_SW_BP;
    const wanted = hardware | software | (step ? KVM_GUESTDBG_SINGLESTEP : 0) | more;
    const control = wanted === 0 ? 0 : KVM_GUESTDBG_ENABLE | wanted;
    vcpu.setGuestDebug({ control, debugreg: debugRegisters(this.#hardware) });
  }

  async #run(how: Resume, signal: AbortSignal): Promise<Stop> {
    const { step } = how;
    const threads = step === undefined ? how.run : [step, ...how.run];
    for (const thread of threads) this.#debug(this.#vcpu(thread), thread === step);
    let turned = performance.now();
    for (;;) {
      for (const thread of threads) {
        if (this.#halted.has(thread)) continue;
        const stop = this.#turn(thread, thread === step);
        if (stop !== undefined) return stop;
      }
      if (threads.every((thread) => this.#halted.has(thread))) return this.#allHalted(threads[0] ?? 1);
      if (signal.aborted) return { kind: "interrupt", thread: threads[0] ?? 1 };
      if (performance.now() - turned < TURN_MS) continue;
      await yieldToHost();
      turned = performance.now();
    }
  }

  #allHalted(thread: number): Stop {
    if (!this.threads.every((other) => this.#halted.has(other))) return { kind: "interrupt", thread };
    return { kind: "end", thread, signal: SIGTRAP, status: 0, message: "the guest halted and nothing can wake it" };
  }

  /** One vCPU for a while; undefined: nothing to stop for. */
  #turn(thread: number, step: boolean): Stop | undefined {
    const vcpu = this.#vcpu(thread);
    const end = vcpu.vmx.instructions + TURN;
    while (vcpu.vmx.instructions < end) {
      const from = vcpu.vmx.instructions;
      const ahead = this.#furthest - this.#count;
      const most = ahead > 0n && ahead < end - from ? ahead : end - from;
      const exit = vcpu.run({ maxInstructions: most });
      this.#ranFrom(from, thread, step);
      if (exit.reason === "intr") return undefined;
      if (exit.reason === "hlt") {
        this.#halted.add(thread);
        return step ? { kind: "step", thread } : undefined;
      }
      if (exit.reason === "debug") {
        const stop = this.#stopped(thread, exit);
        if (stop !== undefined) return stop;
        this.#debug(vcpu, step, KVM_GUESTDBG_INJECT_BP);
        continue;
      }
      const done = vcpu.vmx.instructions;
      const stop = this.#exit(thread, exit, ahead > 0n);
      if (vcpu.vmx.instructions > done) this.#ranFrom(done, thread, step);
      if (stop !== undefined) return stop;
    }
    return undefined;
  }

  #ranFrom(from: bigint, thread: number, step: boolean): void {
    if (this.#again === undefined) return;
    this.#timeline.ran({ thread, from, to: this.#vcpu(thread).vmx.instructions, step });
  }

  #exit(thread: number, exit: KvmExit, again: boolean): Stop | undefined {
    const gone = this.#guest.onExit(this.#vcpu(thread), exit, again);
    if (gone !== undefined) {
      const { message, status } = gone;
      const signal = status === undefined ? SIGABRT : SIGTRAP;
      return { kind: "end", thread, signal, message, ...(status === undefined ? {} : { status }) };
    }
    const end = (message: string, signal = SIGABRT): Stop => ({ kind: "end", thread, signal, message });
    switch (exit.reason) {
      case "shutdown":
        return end("the guest crashed: triple fault");
      case "internalError":
        return end(exit.message);
      case "failEntry":
        return end(`VM entry failed: 0x${exit.hardwareEntryFailureReason.toString(16)}`);
      case "unknown":
        return end(`unknown VM exit ${exit.hardwareExitReason}`);
      default:
        return undefined;
    }
  }

  /** undefined: the guest's own INT3. */
  #stopped(thread: number, exit: Extract<KvmExit, { reason: "debug" }>): Stop | undefined {
    if (exit.exception !== DB_VECTOR) {
      const physical = this.translate(thread, exit.pc);
      if (physical === undefined || !this.#software.has(physical)) return undefined;
      return { kind: "breakpoint", thread, point: "software" };
    }
    const point = this.#hardware.find((_, i) => (exit.dr6 & (1n << BigInt(i))) !== 0n);
    if (point === undefined || (exit.dr6 & DR6_BS && point.kind === "hardware")) return { kind: "step", thread };
    if (point.kind === "hardware") return { kind: "breakpoint", thread, point: "hardware" };
    const kind = point.kind === "write" ? "write" : "access";
    return { kind: "watchpoint", thread, point: kind, address: point.address };
  }

  // --- monitor ---

  readonly commands: readonly MonitorCommand[] = [
    {
      name: "vmcs",
      usage: "vmcs [WORD]",
      summary: "the VMCS, or its lines with a word",
      run: ([word], thread) => {
        const lines = this.#vcpu(thread).dumpVmcs().split("\n");
        if (word === undefined) return lines.join("\n");
        const found = lines.filter((line) => line.toLowerCase().includes(word.toLowerCase()));
        if (found.length === 0) throw new MonitorError(`no line has "${word}"`);
        return found.join("\n");
      },
    },
    {
      name: "exits",
      usage: "exits [COUNT]",
      summary: `the last entries, exits and other events of KVM (20, at most ${HISTORY})`,
      run: ([count = "20"]) => {
        if (!/^[1-9][0-9]{0,3}$/.test(count)) throw new MonitorError(`a count from 1 to ${HISTORY}, not ${count}`);
        const last = this.#history.slice(-Number(count));
        return last.length === 0
          ? "nothing yet"
          : last.map(({ number, text }) => `${String(number).padStart(8)} ${text}`).join("\n");
      },
    },
    {
      name: "count",
      usage: "count",
      summary: "instructions completed and events delivered so far, by vCPU",
      run: () => this.#guest.vcpus.map(({ vmx }, i) => `vCPU ${i}: ${vmx.instructions}`).join("\n"),
    },
  ];
}
