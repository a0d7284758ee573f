import { createServer, type Server, type Socket } from "node:net";
import {
  type GdbArchitecture,
  GdbSession,
  type GdbTarget,
  type SessionEnd,
  type SessionOptions,
  type Stop,
} from "../gdb/index.ts";
import { UsageError } from "./args.ts";

export interface ListenAddress {
  readonly host: string;
  readonly port: number;
}

export interface ServeOptions {
  readonly listen: ListenAddress;
  readonly architecture?: GdbArchitecture;
  readonly signal: AbortSignal;
  /** Called before GDB is answered, so that the guest's output comes first. */
  readonly flush: () => void;
  /** The server listens there, in GDB's words. */
  readonly onListening: (address: string) => void;
  readonly onPacket?: SessionOptions["onPacket"];
}

const LOG_LENGTH = 200;

/** A packet on stderr. */
export function logPacket(direction: "in" | "out", data: string): void {
  const shown = data.length > LOG_LENGTH ? `${data.slice(0, LOG_LENGTH)}... (${data.length} bytes)` : data;
  const text = [...shown].map((c) => (c < " " || c > "~" ? `\\x${c.charCodeAt(0).toString(16).padStart(2, "0")}` : c));
  process.stderr.write(`${direction === "in" ? "->" : "<-"} ${text.join("")}\n`);
}

/** Answers one connection; resolves when it is over, with how GDB ended it, undefined when the connection was lost. */
function attend(target: GdbTarget, socket: Socket, options: ServeOptions): Promise<SessionEnd | undefined> {
  return new Promise((resolve, reject) => {
    let end: SessionEnd | undefined;
    const send = (bytes: Uint8Array): void => {
      options.flush();
      if (socket.writable) socket.write(bytes);
    };
    const session = new GdbSession(target, send, {
      ...(options.architecture === undefined ? {} : { architecture: options.architecture }),
      ...(options.onPacket === undefined ? {} : { onPacket: options.onPacket }),
      onEnd: (how) => {
        end = how;
        socket.end();
      },
    });
    let done: Promise<void> = Promise.resolve();
    const interrupted = (): void => void socket.destroy();
    options.signal.addEventListener("abort", interrupted);
    socket.setNoDelay(true);
    socket.on("data", (bytes) => {
      done = session.receive(bytes);
      done.catch(reject);
    });
    socket.on("error", () => {});
    socket.on("close", () => {
      options.signal.removeEventListener("abort", interrupted);
      session.close();
      done.then(() => resolve(end), reject);
    });
  });
}

function listenOn(server: Server, { host, port }: ListenAddress): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once("error", (error: NodeJS.ErrnoException) => {
      const why: Readonly<Record<string, string>> = {
        EADDRINUSE: "the port is in use; choose another with --listen",
        EACCES: "permission denied",
        EADDRNOTAVAIL: "this machine has no such address",
        ENOTFOUND: "there is no such host",
      };
      reject(new UsageError(`cannot listen on ${host}:${port}: ${why[error.code ?? ""] ?? error.message}`));
    });
    server.listen({ host, port }, resolve);
  });
}

/** Connections one after the other, as they come. */
async function* connections(server: Server, signal: AbortSignal): AsyncGenerator<Socket> {
  const waiting: Socket[] = [];
  let wake = (): void => {};
  let busy = false;
  server.on("connection", (socket) => {
    if (busy || waiting.length > 0) {
      process.stderr.write("wasm-vmx: refused a second connection\n");
      socket.destroy();
      return;
    }
    waiting.push(socket);
    wake();
  });
  signal.addEventListener("abort", () => wake());
  while (!signal.aborted) {
    const socket = waiting.shift();
    if (socket === undefined) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
      continue;
    }
    busy = true;
    yield socket;
    busy = false;
  }
}

/**
 * Serves a target on TCP until GDB kills it, it ends, or the signal comes.
 * @returns how the guest stopped last when it ran to an end, undefined when GDB killed it
 */
export async function serveGdb(target: GdbTarget, options: ServeOptions): Promise<Stop | "interrupted" | undefined> {
  const server = createServer();
  await listenOn(server, options.listen);
  const address = server.address();
  const port = typeof address === "object" && address !== null ? address.port : options.listen.port;
  const { host } = options.listen;
  const shown = host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
  options.onListening(shown);
  if (!/^(127\.|localhost$|::1$)/.test(host)) {
    process.stderr.write(`wasm-vmx: warning: ${host} may be reached from elsewhere, and there is no password\n`);
  }
  try {
    for await (const socket of connections(server, options.signal)) {
      const end = await attend(target, socket, options);
      if (options.signal.aborted) break;
      if (end === "kill") return target.ended;
      if (end === "detach") {
        const stop = await target.resume({ run: target.threads }, options.signal);
        return stop.kind === "interrupt" ? "interrupted" : stop;
      }
      process.stderr.write("wasm-vmx: the connection was lost; the guest stands still until the next one\n");
    }
    return "interrupted";
  } finally {
    server.close();
  }
}
