// Stop replies. GDB manual, "Stop Reply Packets".
import type { Stop } from "./target.ts";

const SIGINT = 2;
const SIGTRAP = 5;
const hex2 = (value: number): string => value.toString(16).padStart(2, "0");

const signalOf = (stop: Stop): number =>
  stop.kind === "interrupt" ? SIGINT : stop.kind === "end" ? stop.signal : SIGTRAP;

/** What GDB said it understands. */
export interface ClientFeatures {
  readonly swbreak: boolean;
  readonly hwbreak: boolean;
}

function reason(stop: Stop, client: ClientFeatures): string {
  switch (stop.kind) {
    case "breakpoint":
      if (stop.point === "software") return client.swbreak ? "swbreak:;" : "";
      return client.hwbreak ? "hwbreak:;" : "";
    case "watchpoint": {
      const name = { write: "watch", read: "rwatch", access: "awatch" }[stop.point];
      return `${name}:${stop.address.toString(16)};`;
    }
    case "beginning":
      return "replaylog:begin;";
    default:
      return "";
  }
}

export function stopReply(stop: Stop, client: ClientFeatures): string {
  return `T${hex2(signalOf(stop))}thread:${stop.thread.toString(16)};${reason(stop, client)}`;
}

/** The guest is gone: it ended itself with a status, or a signal ended it. */
export function exitReply(stop: Extract<Stop, { kind: "end" }>): string {
  return stop.status === undefined ? `X${hex2(stop.signal)}` : `W${hex2(stop.status & 0xff)}`;
}
