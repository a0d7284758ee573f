/** 4096 bytes that nothing changes any more: snapshots share them. */
export type Page = Uint8Array<ArrayBuffer>;

export const PAGE = 4096;
/** Pages a chunk: what two stores have in common is shared by chunk. */
const CHUNK = 512;

/** The contents of a region of memory, page by page; undefined stands for zeros. Never changes. */
export class PageStore {
  readonly pages: number;
  readonly #chunks: readonly (readonly (Page | undefined)[] | undefined)[];

  private constructor(pages: number, chunks: readonly (readonly (Page | undefined)[] | undefined)[]) {
    this.pages = pages;
    this.#chunks = chunks;
  }

  static zeros(pages: number): PageStore {
    return new PageStore(pages, new Array(Math.ceil(pages / CHUNK)).fill(undefined));
  }

  get(page: number): Page | undefined {
    return this.#chunks[Math.floor(page / CHUNK)]?.[page % CHUNK];
  }

  /** A store with some pages replaced; the rest is shared. */
  with(changes: ReadonlyMap<number, Page | undefined>): PageStore {
    if (changes.size === 0) return this;
    const chunks = [...this.#chunks];
    const own = new Set<number>();
    for (const [page, contents] of changes) {
      const at = Math.floor(page / CHUNK);
      if (!own.has(at)) {
        own.add(at);
        chunks[at] = chunks[at] ? [...chunks[at]] : new Array(CHUNK).fill(undefined);
      }
      (chunks[at] as (Page | undefined)[])[page % CHUNK] = contents;
    }
    return new PageStore(this.pages, chunks);
  }

  /** Pages that are not the same object here and there. */
  *differences(other: PageStore): Generator<number> {
    for (let at = 0; at < this.#chunks.length; at++) {
      const a = this.#chunks[at];
      const b = other.#chunks[at];
      if (a === b) continue;
      for (let i = 0; i < CHUNK; i++) if (a?.[i] !== b?.[i]) yield at * CHUNK + i;
    }
  }

  /** Pages that are not zeros. */
  *entries(): Generator<[number, Page]> {
    for (let at = 0; at < this.#chunks.length; at++) {
      const chunk = this.#chunks[at];
      if (!chunk) continue;
      for (let i = 0; i < CHUNK; i++) {
        const page = chunk[i];
        if (page) yield [at * CHUNK + i, page];
      }
    }
  }
}
