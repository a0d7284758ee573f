// One GDB connection: packets in, packets out, no transport. GDB manual, "Remote Protocol".
import { architectureOf, describeTarget, type GdbArchitecture, type TargetDescription } from "./features.ts";
import { addressOf, BadPacket, bytesOf, fromLittleEndian, hexOf, hexText, littleEndian, numberOf } from "./hex.ts";
import { runMonitor } from "./monitor.ts";
import { encodePacket, PacketReader } from "./packets.ts";
import { readRegister, writeRegister } from "./registers.ts";
import { resumeOf } from "./resume.ts";
import { exitReply, stopReply } from "./stops.ts";
import { type GdbTarget, POINT_KINDS, type Point, type Resume, readBytes, type Stop } from "./target.ts";

/** Bytes of a packet at most, either way. */
const PACKET_SIZE = 0x4000;

const EINVAL = "E16";
const EFAULT = "E0e";
const ESRCH = "E03";
const ENOSPC = "E1c";

/** How a session ended. */
export type SessionEnd = "detach" | "kill";

export interface SessionOptions {
  /** Default: by the width of the code that runs when GDB asks. */
  readonly architecture?: GdbArchitecture;
  /** The session is over; the transport may close. */
  readonly onEnd?: (end: SessionEnd) => void;
  /** Every packet in both directions, for logs. */
  readonly onPacket?: (direction: "in" | "out", data: string) => void;
}

const latin1 = (bytes: Uint8Array): string => {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
};

/**
 * Speaks the GDB remote serial protocol for a target. Give it what arrives, send what it gives:
 *
 * ```ts
 * const session = new GdbSession(new MachineTarget(machine), (bytes) => socket.write(bytes));
 * socket.on("data", (bytes) => session.receive(bytes));
 * socket.on("close", () => session.close());
 * ```
 *
 * A packet that makes no sense is answered with an error and changes nothing.
 */
export class GdbSession {
  readonly #target: GdbTarget;
  readonly #send: (bytes: Uint8Array) => void;
  readonly #options: SessionOptions;
  readonly #reader = new PacketReader(PACKET_SIZE);
  readonly #points = new Map<string, Point>();
  #ack = true;
  #last: Uint8Array | undefined;
  #description: TargetDescription | undefined;
  #thread: number;
  #client = { swbreak: false, hwbreak: false };
  #stop: Stop;
  #running: AbortController | undefined;
  /** Packets are answered one after the other. */
  #queue: Promise<void> = Promise.resolve();
  #warnedOf: string | undefined;
  #closed = false;
  /** Said to the caller once the last answer is out. */
  #ended: SessionEnd | undefined;

  constructor(target: GdbTarget, send: (bytes: Uint8Array) => void, options: SessionOptions = {}) {
    this.#target = target;
    this.#send = send;
    this.#options = options;
    this.#thread = target.threads[0] ?? 1;
    this.#stop = target.ended ?? { kind: "step", thread: this.#thread };
  }

  /** Bytes from GDB, in whatever pieces they came. Resolves when all of them are answered; rejects when the target throws. */
  receive(bytes: Uint8Array): Promise<void> {
    for (const event of this.#reader.push(bytes)) {
      switch (event.kind) {
        case "ack":
          break;
        case "nak":
          if (this.#last !== undefined) this.#send(this.#last);
          break;
        case "interrupt":
          this.#running?.abort();
          break;
        case "bad":
          this.#options.onPacket?.("in", `(refused: ${event.why})`);
          if (this.#ack) this.#send(Uint8Array.of(0x2d));
          else this.#reply(EINVAL);
          break;
        case "packet": {
          if (this.#ack) this.#send(Uint8Array.of(0x2b));
          const { data } = event;
          this.#queue = this.#queue.then(() => this.#packet(data));
        }
      }
    }
    return this.#queue;
  }

  /** The transport is gone: a running guest stops, points are removed. */
  close(): void {
    this.#closed = true;
    this.#running?.abort();
    for (const point of this.#points.values()) this.#target.remove(point);
    this.#points.clear();
  }

  #reply(text: string | Uint8Array): void {
    if (this.#closed) return;
    this.#options.onPacket?.("out", typeof text === "string" ? text : latin1(text));
    this.#last = encodePacket(text);
    this.#send(this.#last);
  }

  async #packet(data: Uint8Array): Promise<void> {
    if (this.#closed) return;
    const text = latin1(data);
    this.#options.onPacket?.("in", text);
    try {
      const answer = await this.#answer(text, data);
      if (answer !== undefined) this.#reply(answer);
    } catch (error) {
      if (!(error instanceof BadPacket)) throw error;
      this.#reply(EINVAL);
    }
    if (this.#ended === undefined) return;
    this.close();
    this.#options.onEnd?.(this.#ended);
  }

  #answer(text: string, data: Uint8Array): string | undefined | Promise<string | undefined> {
    const rest = text.slice(1);
    switch (text[0]) {
      case "?":
        return stopReply(this.#stop, this.#client);
      case "g":
        return this.#readGeneral();
      case "G":
        return this.#writeGeneral(rest);
      case "p":
        return this.#readOne(rest);
      case "P":
        return this.#writeOne(rest);
      case "m":
        return this.#readMemory(rest);
      case "M":
        return this.#writeMemory(rest);
      case "X":
        return this.#writeBinary(rest, data);
      case "Z":
      case "z":
        return this.#point(text[0] === "Z", rest);
      case "c":
      case "s":
      case "C":
      case "S":
      case "b":
        return this.#old(text);
      case "v":
        return this.#multiletter(text);
      case "q":
        return this.#query(text);
      case "Q":
        return this.#set(text);
      case "H":
        return this.#selectThread(rest);
      case "T":
        return this.#target.threads.includes(numberOf(rest, 0xffff)) ? "OK" : ESRCH;
      case "D":
        this.#ended = "detach";
        return "OK";
      case "k":
        this.#ended = "kill";
        return undefined;
      default:
        return "";
    }
  }

  // --- registers ---

  get #described(): TargetDescription {
    const { architecture } = this.#options;
    this.#description ??= describeTarget(architecture ?? architectureOf(this.#target.codeMode(this.#thread)));
    return this.#description;
  }

  #readGeneral(): string {
    const { registers, general } = this.#described;
    const values = this.#target.readRegisters(this.#thread);
    return registers
      .slice(0, general)
      .map((register) => {
        const value = readRegister(this.#target, this.#thread, register, values);
        return value === undefined ? "xx".repeat(register.bits / 8) : littleEndian(value, register.bits / 8);
      })
      .join("");
  }

  #writeGeneral(hex: string): string {
    const { registers, general } = this.#described;
    const all = registers.slice(0, general);
    if (hex.length !== all.reduce((sum, { bits }) => sum + bits / 4, 0)) throw new BadPacket("wrong length of G");
    let at = 0;
    for (const register of all) {
      const text = hex.slice(at, at + register.bits / 4);
      at += register.bits / 4;
      const now = readRegister(this.#target, this.#thread, register);
      if (now === undefined || /^x+$/.test(text)) continue;
      const value = fromLittleEndian(bytesOf(text));
      if (value !== now && !writeRegister(this.#target, this.#thread, register, value)) return EINVAL;
    }
    return "OK";
  }

  #readOne(text: string): string {
    const register = this.#described.registers[numberOf(text, 0xffff)];
    if (register === undefined) return EINVAL;
    const value = readRegister(this.#target, this.#thread, register);
    return value === undefined ? "xx".repeat(register.bits / 8) : littleEndian(value, register.bits / 8);
  }

  #writeOne(text: string): string {
    const [number, value, ...more] = text.split("=");
    const register = this.#described.registers[numberOf(number, 0xffff)];
    if (register === undefined || value === undefined || more.length > 0) return EINVAL;
    const bytes = bytesOf(value);
    if (bytes.length !== register.bits / 8) throw new BadPacket("wrong length of a register");
    return writeRegister(this.#target, this.#thread, register, fromLittleEndian(bytes)) ? "OK" : EINVAL;
  }

  // --- memory ---

  #range(text: string): { address: bigint; size: number } {
    const [address, size, ...more] = text.split(",");
    if (more.length > 0) throw new BadPacket("no address and length");
    return { address: addressOf(address), size: numberOf(size, 0x1000_0000) };
  }

  #readMemory(text: string): string {
    const { address, size } = this.#range(text);
    const most = (PACKET_SIZE - 4) / 2;
    const bytes = readBytes(this.#target, this.#thread, address, Math.min(size, most));
    return bytes.length === 0 && size > 0 ? EFAULT : hexOf(bytes);
  }

  #writeMemory(text: string): string {
    const colon = text.indexOf(":");
    const { address, size } = this.#range(text.slice(0, Math.max(colon, 0)));
    const bytes = bytesOf(text.slice(colon + 1));
    if (bytes.length !== size) throw new BadPacket("the length does not fit the bytes");
    return this.#target.writeLinear(this.#thread, address, bytes) ? "OK" : EFAULT;
  }

  #writeBinary(text: string, data: Uint8Array): string {
    const colon = text.indexOf(":");
    const { address, size } = this.#range(text.slice(0, Math.max(colon, 0)));
    const bytes = data.subarray(colon + 2);
    if (bytes.length !== size) throw new BadPacket("the length does not fit the bytes");
    return size === 0 || this.#target.writeLinear(this.#thread, address, bytes) ? "OK" : EFAULT;
  }

  // --- breakpoints and watchpoints ---

  #point(insert: boolean, text: string): string {
    const [type, address, size, ...more] = text.split(",");
    if (more.length > 0 || size === undefined) throw new BadPacket("no type, address and kind");
    const kind = POINT_KINDS[numberOf(type, 0xff)];
    // conditions and commands are never announced
    if (kind === undefined || text.includes(";")) return "";
    const watch = kind !== "software" && kind !== "hardware";
    const point: Point = { kind, address: addressOf(address), size: watch ? numberOf(size, 0x1000_0000) : 1 };
    if (watch && point.size === 0) throw new BadPacket("a watchpoint of no bytes");
    const key = `${kind},${point.address},${point.size}`;
    if (insert) {
      if (this.#points.has(key)) return "OK";
      if (!this.#target.insert(point)) return watch || kind === "hardware" ? ENOSPC : EFAULT;
      this.#points.set(key, point);
    } else if (this.#points.delete(key)) this.#target.remove(point);
    return "OK";
  }

  // --- running ---

  async #old(text: string): Promise<string | undefined> {
    const how = resumeOf(text, this.#thread, this.#target.threads);
    if (how === undefined) return "";
    if (how.address !== undefined) {
      const { registers } = this.#described;
      const pc = registers.find(({ name }) => name === "rip" || name === "eip")!;
      if (!writeRegister(this.#target, this.#thread, pc, how.address)) return EINVAL;
    }
    return this.#resume(how.resume);
  }

  async #multiletter(text: string): Promise<string | undefined> {
    if (text === "vCont?") return "vCont;c;C;s;S";
    if (text.startsWith("vCont;")) {
      const how = resumeOf(text, this.#thread, this.#target.threads);
      return how === undefined ? EINVAL : this.#resume(how.resume);
    }
    if (text.startsWith("vKill;")) {
      this.#ended = "kill";
      return "OK";
    }
    return "";
  }

  async #resume(how: Resume): Promise<string | undefined> {
    const gone = this.#target.ended;
    if (gone?.kind === "end" && !how.reverse) {
      this.#ended = "kill";
      return exitReply(gone);
    }
    const controller = new AbortController();
    this.#running = controller;
    try {
      this.#stop = await this.#target.resume(how, controller.signal);
    } finally {
      this.#running = undefined;
    }
    this.#thread = this.#stop.thread;
    this.#explain(this.#stop);
    return stopReply(this.#stop, this.#client);
  }

  /** Tells on GDB's console what a stop reply cannot. */
  #explain(stop: Stop): void {
    if ("message" in stop) this.#console(`wasm-vmx: ${stop.message}\n`);
    const now = architectureOf(this.#target.codeMode(stop.thread));
    const { architecture } = this.#described;
    if (now === architecture || now === this.#warnedOf) return;
    this.#warnedOf = now;
    const registers = now === "i386:x86-64" || architecture === "i386:x86-64";
    const hint = registers ? "connect again for its registers" : `for its disassembly: set architecture ${now}`;
    this.#console(`wasm-vmx: the guest runs ${now} code now, GDB shows ${architecture}; ${hint}\n`);
  }

  #console(text: string): void {
    this.#reply(`O${hexText(text)}`);
  }

  // --- threads ---

  #selectThread(text: string): string {
    const id = text.slice(1);
    if (!"gc".includes(text[0] ?? " ")) return EINVAL;
    if (id === "0" || id === "-1") return "OK";
    const thread = numberOf(id, 0xffff);
    if (!this.#target.threads.includes(thread)) return ESRCH;
    if (text[0] === "g") this.#thread = thread;
    return "OK";
  }

  // --- queries ---

  #query(text: string): string {
    const [name = "", ...args] = text.split(/[:,;]/);
    switch (name) {
      case "qSupported":
        return this.#supported(text);
      case "qXfer":
        return this.#transfer(text);
      case "qAttached":
        return "0";
      case "qC":
        return `QC${this.#thread.toString(16)}`;
      case "qfThreadInfo":
        return `m${this.#target.threads.map((id) => id.toString(16)).join(",")}`;
      case "qsThreadInfo":
        return "l";
      case "qThreadExtraInfo": {
        const thread = numberOf(args[0], 0xffff);
        return this.#target.threads.includes(thread) ? hexText(this.#target.threadName(thread)) : ESRCH;
      }
      case "qSymbol":
        return "OK";
      case "qRcmd": {
        const command = new TextDecoder().decode(bytesOf(args[0] ?? ""));
        return this.#answerInPieces(runMonitor(this.#target, this.#thread, command));
      }
      default:
        return "";
    }
  }

  /** The last piece is the answer, those before it go to the console. */
  #answerInPieces(answer: string): string {
    const hex = hexText(answer.endsWith("\n") ? answer : `${answer}\n`);
    const most = PACKET_SIZE - 64;
    for (let at = 0; at < hex.length; at += most) this.#reply(`O${hex.slice(at, at + most)}`);
    return "OK";
  }

  #supported(text: string): string {
    const said = text.split(/[:;]/);
    this.#client = { swbreak: said.includes("swbreak+"), hwbreak: said.includes("hwbreak+") };
    // a new conversation: the guest may have changed its mode
    this.#description = undefined;
    return [
      `PacketSize=${PACKET_SIZE.toString(16)}`,
      "qXfer:features:read+",
      "QStartNoAckMode+",
      "swbreak+",
      "hwbreak+",
      "vContSupported+",
      "ReverseStep+",
      "ReverseContinue+",
    ].join(";");
  }

  #transfer(text: string): string {
    const match = /^qXfer:features:read:([^:]*):([^,]*),([^,]*)$/.exec(text);
    if (match === null) return "";
    if (match[1] !== "target.xml") return "E00";
    const { xml } = this.#described;
    const [offset, length] = [numberOf(match[2], 0xff_ffff), numberOf(match[3], 0xff_ffff)];
    const piece = xml.slice(offset, offset + Math.min(length, PACKET_SIZE / 2));
    return (offset + piece.length >= xml.length ? "l" : "m") + piece;
  }

  #set(text: string): string | undefined {
    if (text !== "QStartNoAckMode") return "";
    this.#reply("OK");
    this.#ack = false;
    return undefined;
  }
}
