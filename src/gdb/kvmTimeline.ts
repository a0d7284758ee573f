// What a KVM guest has done, so that it can be done again. KVM and its host are part of a deterministic machine, so going
// back is the same guest from its beginning, run to an earlier place.
import { KVM_GUESTDBG_ENABLE, KVM_GUESTDBG_SINGLESTEP, type KvmExit, type RunSteps, type Vcpu } from "../kvm/index.ts";
import { yieldToHost } from "../machine/index.ts";

/** How a guest ended by its own doing. */
export interface GuestEnd {
  readonly message: string;
  readonly status?: number;
}

/** A machine and the VMM around it. */
export interface KvmGuest {
  /** All of one machine; the first one is thread 1. */
  readonly vcpus: readonly Vcpu[];
  /**
   * What the VMM does at an exit that is not the debugger's. `again`: the guest has been here before and came back, so what it
   * puts out has been put out.
   */
  readonly onExit: (vcpu: Vcpu, exit: KvmExit, again: boolean) => GuestEnd | undefined;
}

/** One vCPU ran from one count of its instructions to another. */
interface Ran {
  readonly thread: number;
  readonly from: bigint;
  readonly to: bigint;
  /** By single steps: what KVM does for them is part of the guest's past. */
  readonly step: boolean;
}

/** The debugger wrote registers or memory. */
type Change = (guest: KvmGuest) => void;

/** A place in a timeline: in this entry, at this count of its vCPU. */
export interface Place {
  readonly index: number;
  readonly count: bigint;
}

/** Sees the guest where it pauses in the middle of an entry. */
export type Look = (place: Place) => void;

/** Work between two turns of the event loop. */
const SLICE = 2_000_000n;
/** Exits without an instruction, after which a run cannot be what it was. */
const IDLE_EXITS = 100;

export class Timeline {
  #entries: (Ran | Change)[];
  /** A step came into the middle of a REP, which counts when it is done: the timeline ends before that instruction. */
  #inside = false;

  constructor(entries: readonly (Ran | Change)[] = []) {
    this.#entries = [...entries];
  }

  ran(entry: Ran): void {
    if (entry.from === entry.to) {
      this.#inside ||= entry.step;
      return;
    }
    this.#inside = false;
    const last = this.#entries.at(-1);
    const goesOn = typeof last === "object" && last.thread === entry.thread && last.step === entry.step;
    if (goesOn) this.#entries[this.#entries.length - 1] = { ...last, to: entry.to };
    else this.#entries.push(entry);
  }

  changed(change: Change): void {
    this.#entries.push(change);
  }

  /** Up to a place; undefined: to before the first instruction. */
  upTo(place: Place | undefined): Timeline {
    if (place === undefined) {
      const first = this.#entries.findIndex((entry) => typeof entry === "object");
      return new Timeline(first < 0 ? this.#entries : this.#entries.slice(0, first));
    }
    const { index, count } = place;
    const entry = this.#entries[index] as Ran;
    const kept = this.#entries.slice(0, index);
    return new Timeline(count > entry.from ? [...kept, { ...entry, to: count }] : kept);
  }

  get inside(): boolean {
    return this.#inside;
  }

  /** So many instructions of the thread before the end; undefined: it has not executed so many. */
  before(thread: number, instructions: bigint): Place | undefined {
    let left = instructions;
    for (let index = this.#entries.length - 1; index >= 0; index--) {
      const entry = this.#entries[index]!;
      if (typeof entry === "function" || entry.thread !== thread) continue;
      const has = entry.to - entry.from;
      if (has >= left) return { index, count: entry.to - left };
      left -= has;
    }
    return undefined;
  }

  threadAt({ index }: Place): number {
    return (this.#entries[index] as Ran).thread;
  }

  /** The end of the timeline. */
  isEnd({ index, count }: Place): boolean {
    return !this.#inside && index === this.#entries.length - 1 && (this.#entries[index] as Ran).to === count;
  }

  /** Does everything again with a guest at its beginning. False: the signal came first. */
  async replay(guest: KvmGuest, signal: AbortSignal, look?: Look): Promise<boolean> {
    for (const [index, entry] of this.#entries.entries()) {
      if (typeof entry === "function") entry(guest);
      else if (!(await runAgain(guest, entry, signal, (count) => look?.({ index, count })))) return false;
    }
    const index = this.#entries.length - 1;
    const last = this.#entries[index];
    // behind MOV SS and STI nothing can stop: the next instruction belongs to them
    if (typeof last === "object") {
      this.#entries[index] = { ...last, to: guest.vcpus[last.thread - 1]!.vmx.instructions };
    }
    return true;
  }
}

async function runAgain(
  { vcpus, onExit }: KvmGuest,
  { thread, to, step }: Ran,
  signal: AbortSignal,
  look: (count: bigint) => void,
): Promise<boolean> {
  const vcpu = vcpus[thread - 1]!;
  vcpu.setGuestDebug({ control: step ? KVM_GUESTDBG_ENABLE | KVM_GUESTDBG_SINGLESTEP : 0 });
  let idle = 0;
  while (vcpu.vmx.instructions < to) {
    const before = vcpu.vmx.instructions;
    const exit = await inSlices(vcpu, vcpu.runSteps({ maxInstructions: to - before, slice: SLICE }), signal, look);
    if (signal.aborted) return false;
    idle = vcpu.vmx.instructions === before ? idle + 1 : 0;
    if (idle > IDLE_EXITS) {
      throw new Error(`vCPU ${thread - 1} does not come from ${before} to ${to} instructions again: ${exit.reason}`);
    }
    if (exit.reason !== "debug" && exit.reason !== "intr") onExit(vcpu, exit, true);
  }
  return true;
}

async function inSlices(
  vcpu: Vcpu,
  steps: RunSteps<KvmExit>,
  signal: AbortSignal,
  look: (count: bigint) => void,
): Promise<KvmExit> {
  const { core } = vcpu.vmx.host;
  const start = core.count - vcpu.vmx.instructions;
  let work = core.work;
  for (let sent: bigint | undefined; ; ) {
    const step = sent === undefined ? steps.next() : steps.next(sent);
    if (step.done) return step.value;
    look(core.count - start);
    if (core.work - work < SLICE) continue;
    work = core.work;
    await yieldToHost();
    if (signal.aborted) sent = 0n;
  }
}
