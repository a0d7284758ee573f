/** Removes the hook again; further calls do nothing. */
export type RemoveHook = () => void;

/** Newest first, so that a later hook overrides an earlier one. */
export class HookList<T> {
  readonly #hooks: T[] = [];
  readonly #changed: (any: boolean) => void;

  constructor(changed: (any: boolean) => void = () => {}) {
    this.#changed = changed;
  }

  get size(): number {
    return this.#hooks.length;
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

  /** A copy, so that a hook may add and remove hooks. */
  [Symbol.iterator](): Iterator<T> {
    return [...this.#hooks][Symbol.iterator]();
  }
}
