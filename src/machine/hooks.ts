import {
  type Core,
  type CpuidResult,
  checkFunction,
  checkInteger,
  checkU32,
  checkU64,
  StateError,
} from "../core/index.ts";
import { HookList, type RemoveHook } from "./hookList.ts";

/** One port, or the ports from the first to the last, both included. */
export type PortRange = number | readonly [first: number, last: number];

/** Value of IN (size 1, 2 or 4), or undefined to pass it on to an earlier hook; without one IN gives all ones. */
export type PortInHook = (port: number, size: number) => number | undefined;
/** OUT. Return false to pass it on to an earlier hook; without one OUT does nothing. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook that returns nothing is the usual one
export type PortOutHook = (port: number, value: number, size: number) => boolean | void;
/** Four registers, or some of them (the others stay the model's), or undefined for what the processor would answer. */
export type CpuidHook = (leaf: number, subleaf: number) => Partial<CpuidResult> | undefined;
/** The value, `"#GP"` to raise #GP(0), or undefined for what the processor would do. */
export type RdmsrHook = (index: number) => bigint | "#GP" | undefined;
/** True: the write is done; `"#GP"`: raise #GP(0); anything else: what the processor would do. */
// biome-ignore lint/suspicious/noConfusingVoidType: a hook that only looks returns nothing
export type WrmsrHook = (index: number, value: bigint) => boolean | "#GP" | void;

/** CPUID leaves or MSR indices: one, or from the first to the last, both included. */
export type IndexRange = number | readonly [first: number, last: number];

interface PortHook<T> {
  readonly first: number;
  readonly last: number;
  readonly hook: T;
}

const EVERY: IndexRange = [0, 0xffff_ffff];

function checkIndices(range: IndexRange): { first: number; last: number } {
  const [first, last] = typeof range === "number" ? [range, range] : range;
  checkU32("first index", first);
  checkInteger("last index", last, first, 0xffff_ffff);
  return { first, last };
}

function checkRange(range: PortRange): [number, number] {
  const [first, last] = typeof range === "number" ? [range, range] : range;
  checkInteger("first port", first, 0, 0xffff);
  checkInteger("last port", last, first, 0xffff);
  return [first, last];
}

function indexed<T extends (...args: never[]) => unknown>(first: IndexRange | T, second: T | undefined): PortHook<T> {
  const hook = second ?? first;
  checkFunction("hook", hook);
  return { ...checkIndices(second === undefined ? EVERY : (first as IndexRange)), hook: hook as T };
}

/** Hooks of a machine: lists in front of the core's single callbacks, which exist only while a list is not empty. */
export class Hooks {
  readonly #core: Core;
  readonly #portIn: HookList<PortHook<PortInHook>>;
  readonly #portOut: HookList<PortHook<PortOutHook>>;
  readonly #cpuid: HookList<PortHook<CpuidHook>>;
  readonly #rdmsr: HookList<PortHook<RdmsrHook>>;
  readonly #wrmsr: HookList<PortHook<WrmsrHook>>;
  readonly #inChains = new Map<number, PortInHook[]>();
  readonly #outChains = new Map<number, PortOutHook[]>();

  constructor(core: Core) {
    this.#core = core;
    this.#portIn = new HookList((any) => {
      this.#inChains.clear();
      core.setHandler("portIn", any ? (port, size) => this.#in(port, size) : undefined);
    });
    this.#portOut = new HookList((any) => {
      this.#outChains.clear();
      core.setHandler("portOut", any ? (port, size, value) => this.#out(port, size, value) : undefined);
    });
    this.#cpuid = new HookList((any) => {
      core.setHandler("cpuid", any ? (leaf, subleaf) => this.#answerCpuid(leaf, subleaf) : undefined);
    });
    this.#rdmsr = new HookList((any) => {
      core.setHandler("rdmsr", any ? (index) => this.#answerRdmsr(index) : undefined);
    });
    this.#wrmsr = new HookList((any) => {
      core.setHandler("wrmsr", any ? (index, value) => this.#answerWrmsr(index, value) : undefined);
    });
  }

  onPortIn(range: PortRange, hook: PortInHook): RemoveHook {
    checkFunction("hook", hook);
    const [first, last] = checkRange(range);
    return this.#portIn.add({ first, last, hook });
  }

  onPortOut(range: PortRange, hook: PortOutHook): RemoveHook {
    checkFunction("hook", hook);
    const [first, last] = checkRange(range);
    return this.#portOut.add({ first, last, hook });
  }

  onCpuid(hook: CpuidHook): RemoveHook;
  onCpuid(range: IndexRange, hook: CpuidHook): RemoveHook;
  onCpuid(first: IndexRange | CpuidHook, second?: CpuidHook): RemoveHook {
    return this.#cpuid.add(indexed(first, second));
  }

  onRdmsr(hook: RdmsrHook): RemoveHook;
  onRdmsr(range: IndexRange, hook: RdmsrHook): RemoveHook;
  onRdmsr(first: IndexRange | RdmsrHook, second?: RdmsrHook): RemoveHook {
    return this.#rdmsr.add(indexed(first, second));
  }

  onWrmsr(hook: WrmsrHook): RemoveHook;
  onWrmsr(range: IndexRange, hook: WrmsrHook): RemoveHook;
  onWrmsr(first: IndexRange | WrmsrHook, second?: WrmsrHook): RemoveHook {
    return this.#wrmsr.add(indexed(first, second));
  }

  #in(port: number, size: number): number {
    for (const hook of chain(this.#inChains, this.#portIn, port)) {
      const value = hook(port, size);
      if (value !== undefined) return checkInteger("value of a port-in hook", value, 0, 2 ** (8 * size) - 1);
    }
    return -1;
  }

  #out(port: number, size: number, value: number): void {
    for (const hook of chain(this.#outChains, this.#portOut, port)) {
      if (hook(port, value, size) !== false) return;
    }
  }

  #answerCpuid(leaf: number, subleaf: number): boolean {
    for (const { first, last, hook } of this.#cpuid) {
      if (leaf < first || leaf > last) continue;
      const answer = hook(leaf, subleaf);
      if (answer === undefined) continue;
      if (typeof answer !== "object" || answer === null) {
        throw new TypeError("a CPUID hook must return { eax, ebx, ecx, edx } or undefined");
      }
      const result = { ...this.#core.cpuid(leaf, subleaf), ...answer };
      for (const name of ["eax", "ebx", "ecx", "edx"] as const) checkU32(`${name} of a CPUID hook`, result[name]);
      this.#core.setCpuidResult(result);
      return true;
    }
    return false;
  }

  #answerRdmsr(index: number): bigint | "#GP" | undefined {
    for (const { first, last, hook } of this.#rdmsr) {
      if (index < first || index > last) continue;
      const answer = hook(index);
      if (answer === undefined) continue;
      return answer === "#GP" ? answer : checkU64("value of an RDMSR hook", answer);
    }
    return undefined;
  }

  #answerWrmsr(index: number, value: bigint): boolean | "#GP" | undefined {
    for (const { first, last, hook } of this.#wrmsr) {
      if (index < first || index > last) continue;
      const answer = hook(index, value);
      if (answer === true || answer === "#GP") return answer;
      if (answer !== undefined && answer !== false) {
        throw new StateError(`a WRMSR hook must return true, "#GP" or nothing, not ${String(answer)}`);
      }
    }
    return undefined;
  }
}

function chain<T>(cache: Map<number, T[]>, hooks: Iterable<PortHook<T>>, port: number): T[] {
  let found = cache.get(port);
  if (found === undefined) {
    found = [];
    for (const { first, last, hook } of hooks) if (port >= first && port <= last) found.push(hook);
    cache.set(port, found);
  }
  return found;
}
