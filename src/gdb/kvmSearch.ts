// Where a guest last met one of the debugger's points: looked for while its past runs again, with breakpoints and watchpoints of
// the processor itself, of which neither the guest nor KVM sees anything.
import { COMM_WATCH_COUNT } from "../../assembly/abi/run.ts";
import { VMX_STATE, VmxBit } from "../../assembly/abi/state.ts";
import { Breakpoints } from "../machine/breakpoints.ts";
import { TrapSet } from "../machine/traps.ts";
import type { KvmGuest, Place, Timeline } from "./kvmTimeline.ts";
import type { Point } from "./target.ts";

export interface Found {
  /** Before the instruction at a breakpoint, or the one whose access a watchpoint met. */
  readonly place: Place;
  readonly point: Point;
}

/** The last one before the end of the timeline, which `guest` goes through; "interrupted" when the signal came. */
export async function lastPoint(
  timeline: Timeline,
  guest: KvmGuest,
  points: readonly Point[],
  signal: AbortSignal,
): Promise<Found | "interrupted" | undefined> {
  const { core } = guest.vcpus[0]!.vmx.host;
  const traps = new TrapSet(core);
  const set = new Breakpoints(core, traps);
  const byId = new Map<number, Point>();
  for (const point of points) {
    const { kind, address, size } = point;
    const { id } =
      kind === "software" || kind === "hardware"
        ? set.addBreakpoint(address, {})
        : set.addWatchpoint(address, { size, access: kind });
    byId.set(id, point);
  }
  traps.apply();
  let found: Found | undefined;
  const note = (ids: readonly number[], place: Place): void => {
    const point = ids.map((id) => byId.get(id)).find((known) => known !== undefined);
    if (point !== undefined && !timeline.isEnd(place)) found = { place, point };
  };
  const done = await timeline.replay(guest, signal, ({ index, count }) => {
    if (!(core.read32(VMX_STATE) & VmxBit.NonRoot)) return;
    for (const { ids } of set.hits()) note(ids, { index, count: count - 1n });
    core.write32(COMM_WATCH_COUNT, 0);
    note(set.at(core.codeAddress, undefined), { index, count });
  });
  return done ? found : "interrupted";
}
