import {
  type Core,
  type CpuidResult,
  checkFunction,
  checkInteger,
  checkU32,
  checkU64,
  StateError,
} from "../core/index.ts";

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

/** Removes the hook again; further calls do nothing. */
export type RemoveHook = () => void;

interface PortHook<T> {
  readonly first: number;
  readonly last: number;
  readonly hook: T;
}

function checkRange(range: PortRange): [number, number] {
  const [first, last] = typeof range === "number" ? [range, range] : range;
  checkInteger("first port", first, 0, 0xffff);
  checkInteger("last port", last, first, 0xffff);
  return [first, last];
}

/** Newest first, so that a later hook overrides an earlier one. */
class HookList<T> {
  readonly #hooks: T[] = [];
  readonly #changed: (any: boolean) => void;

  constructor(changed: (any: boolean) => void) {
    this.#changed = changed;
  }

  add(hook: T): RemoveHook {
    this.#hooks.unshift(hook);
    this.#changed(true);
    return () => {
      const at = this.#hooks.indexOf(hook);
      if (at < 0) return;
      this.#hooks.splice(at, 1);
      this.#changed(this.#hooks.length > 0);
    };
  }

  [Symbol.iterator](): Iterator<T> {
    return this.#hooks[Symbol.iterator]();
  }
}

/** Hooks of a machine: lists in front of the core's single callbacks, which exist only while a list is not empty. */
export class Hooks {
  readonly #core: Core;
  readonly #portIn: HookList<PortHook<PortInHook>>;
  readonly #portOut: HookList<PortHook<PortOutHook>>;
  readonly #cpuid: HookList<CpuidHook>;
  readonly #rdmsr: HookList<RdmsrHook>;
  readonly #wrmsr: HookList<WrmsrHook>;
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

  onCpuid(hook: CpuidHook): RemoveHook {
    checkFunction("hook", hook);
    return this.#cpuid.add(hook);
  }

  onRdmsr(hook: RdmsrHook): RemoveHook {
    checkFunction("hook", hook);
    return this.#rdmsr.add(hook);
  }

  onWrmsr(hook: WrmsrHook): RemoveHook {
    checkFunction("hook", hook);
    return this.#wrmsr.add(hook);
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
    for (const hook of this.#cpuid) {
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
    for (const hook of this.#rdmsr) {
      const answer = hook(index);
      if (answer === undefined) continue;
      return answer === "#GP" ? answer : checkU64("value of an RDMSR hook", answer);
    }
    return undefined;
  }

  #answerWrmsr(index: number, value: bigint): boolean | "#GP" | undefined {
    for (const hook of this.#wrmsr) {
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
