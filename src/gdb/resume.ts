// The packets that make the guest run: c, s, C, S, bc, bs and vCont.
import { addressOf, BadPacket, numberOf } from "./hex.ts";
import type { Resume } from "./target.ts";

export interface ResumeRequest {
  readonly resume: Resume;
  /** Where to go on instead. */
  readonly address?: bigint;
}

/** `s:1;c` -> what each thread does: the leftmost action that fits a thread holds. */
function multithreaded(actions: readonly string[], threads: readonly number[]): Resume {
  const chosen = new Map<number, string>();
  for (const action of actions) {
    const [what = "", id, ...more] = action.split(":");
    if (more.length > 0 || !/^([cs]|[CS][0-9a-f]{2})$/i.test(what)) throw new BadPacket(`no action: ${action}`);
    const all = id === undefined || id === "-1";
    const named = all ? threads : threads.filter((thread) => thread === numberOf(id, 0xffff));
    if (named.length === 0) throw new BadPacket(`no thread ${id}`);
    for (const thread of named) if (!chosen.has(thread)) chosen.set(thread, what[0]!.toLowerCase());
  }
  const stepping = threads.filter((thread) => chosen.get(thread) === "s");
  const run = threads.filter((thread) => chosen.get(thread) === "c");
  if (stepping.length === 0) return { run };
  return { step: stepping[0]!, run };
}

/** undefined: no such packet. BadPacket: one that makes no sense. */
export function resumeOf(text: string, thread: number, threads: readonly number[]): ResumeRequest | undefined {
  if (text.startsWith("vCont;")) return { resume: multithreaded(text.slice(6).split(";"), threads) };
  if (text === "bc") return { resume: { run: threads, reverse: true } };
  if (text === "bs") return { resume: { step: thread, run: [], reverse: true } };
  const match = /^(?:([cs])|[CS]([0-9a-f]{2});?)(.*)$/i.exec(text);
  if (match === null || text[0] === "b") return undefined;
  const step = text[0]!.toLowerCase() === "s";
  const resume: Resume = step ? { step: thread, run: [] } : { run: threads };
  return match[3] === "" ? { resume } : { resume, address: addressOf(match[3]) };
}
