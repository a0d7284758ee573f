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

const NO_WAY_BACK =
  "reverse execution is for the bare processor: what KVM and its host keep of a guest is not recorded. Debug the guest without --vmx";

/** How a guest ended by its own doing. */
export interface GuestEnd {
  readonly message: string;
  readonly status?: number;
}

export interface KvmTargetOptions {
  /** All of one machine; the first one is thread 1. */
  readonly vcpus: readonly Vcpu[];
  /** What the VMM does at an exit that is not the debugger's. */
  readonly onExit: (vcpu: Vcpu, exit: KvmExit) => GuestEnd | undefined;
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
  readonly #vcpus: readonly Vcpu[];
  readonly #onExit: KvmTargetOptions["onExit"];
  readonly #halted = new Set<number>();
  #hardware: Point[] = [];
  /** What INT3 stands for, by guest-physical address, and for how many points. */
  readonly #software = new Map<bigint, { readonly byte: number; readonly points: number }>();
  readonly #history: { readonly number: number; readonly text: string }[] = [];
  #events = 0;

  constructor({ vcpus, onExit }: KvmTargetOptions) {
    this.#vcpus = vcpus;
    this.#onExit = onExit;
    this.threads = vcpus.map((_, i) => i + 1);
    const { host } = this.#vcpu(1).vmx;
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
    const vcpu = this.#vcpus[thread - 1];
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
  }

  readMsr(thread: number, index: number): bigint | undefined {
    return this.#vcpu(thread).getMsrs([index])[0]?.data;
  }

  writeMsr(thread: number, index: number, data: bigint): boolean {
    return this.#vcpu(thread).setMsrs([{ index, data }]) === 1;
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
    for (const part of parts) this.#writePhysical(part.physical, part.bytes);
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
    return true;
  }

  remove({ kind, address, size }: Point): void {
    if (kind !== "software") {
      const at = this.#hardware.findIndex((p) => p.kind === kind && p.address === address && p.size === size);
      this.#hardware = this.#hardware.filter((_, i) => i !== at);
      return;
    }
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
    if (how.reverse) return { kind: "beginning", thread: how.step ?? how.run[0] ?? 1, message: NO_WAY_BACK };
    const stop = await this.#run(how, signal);
    this.ended = stop.kind === "end" ? stop : undefined;
    return stop;
  }

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
      const exit = vcpu.run({ maxInstructions: end - vcpu.vmx.instructions });
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
      const stop = this.#exit(thread, exit);
      if (stop !== undefined) return stop;
    }
    return undefined;
  }

  #exit(thread: number, exit: KvmExit): Stop | undefined {
    const gone = this.#onExit(this.#vcpu(thread), exit);
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
      run: () => this.#vcpus.map(({ vmx }, i) => `vCPU ${i}: ${vmx.instructions}`).join("\n"),
    },
  ];
}
