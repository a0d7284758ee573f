import { styleText } from "node:util";

type Format = Parameters<typeof styleText>[0];

/** styleText for one stream: plain text when it is no terminal or NO_COLOR is set. */
export function styler(stream: { readonly isTTY?: boolean }): (format: Format, text: string) => string {
  const { NO_COLOR, FORCE_COLOR } = process.env;
  const colour = FORCE_COLOR ? FORCE_COLOR !== "0" : stream.isTTY === true && !NO_COLOR;
  return colour ? (format, text) => styleText(format, text) : (_format, text) => text;
}

/** Writes a guest's console bytes to a stream in few pieces. */
export class ConsoleWriter {
  readonly #stream: NodeJS.WriteStream | undefined;
  #pending: number[] = [];
  readonly #all: number[] | undefined;

  /** Without a stream the bytes are kept for `text`. */
  constructor(stream?: NodeJS.WriteStream) {
    this.#stream = stream;
    this.#all = stream ? undefined : [];
  }

  readonly put = (byte: number): void => {
    if (this.#all) {
      this.#all.push(byte);
      return;
    }
    this.#pending.push(byte);
    if (byte === 10 || this.#pending.length >= 4096) this.flush();
  };

  flush(): void {
    if (this.#pending.length === 0) return;
    this.#stream?.write(Uint8Array.from(this.#pending));
    this.#pending = [];
  }

  get text(): string {
    return Buffer.from(this.#all ?? []).toString("utf8");
  }
}

/** Runs `body` with a signal that the first Ctrl-C aborts; a second one ends the process. */
export async function withInterrupt<T>(body: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const onInterrupt = () => {
    if (controller.signal.aborted) process.exit(130);
    controller.abort();
  };
  process.on("SIGINT", onInterrupt);
  try {
    return await body(controller.signal);
  } finally {
    process.off("SIGINT", onInterrupt);
  }
}

/** A reader that has gone away (`| head`) ends the command quietly. */
export function exitOnBrokenPipe(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on("error", (error: NodeJS.ErrnoException) => {
      if (error.code === "EPIPE") process.exit(0);
      throw error;
    });
  }
}

export interface Progress {
  readonly show: (done: number) => void;
  readonly end: () => void;
}

/** A count that overwrites itself on a terminal, a line every five seconds elsewhere; nothing for what ends at once. */
export function progressOn(
  stream: NodeJS.WriteStream,
  label: string,
  total: number,
  unit: string,
  now: () => number = () => performance.now(),
): Progress {
  const begun = now();
  const [patience, every] = stream.isTTY ? [500, 100] : [5000, 5000];
  let last = begun + patience - every;
  let shown = false;
  return {
    show(done) {
      const time = now();
      if (time - last < every || done === 0) return;
      last = time;
      shown = true;
      const left = (((time - begun) / done) * (total - done)) / 1000;
      const text = `${label}: ${done}/${total} ${unit}, ${left.toFixed(0)} s left`;
      stream.write(stream.isTTY ? `\r${text}\u001b[K` : `${text}\n`);
    },
    end() {
      if (shown && stream.isTTY) stream.write("\r\u001b[K");
    },
  };
}
