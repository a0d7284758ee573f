// Addresses that the host asked to be told of: breakpoints, watchpoints, hooks and permissions. The host writes four lists
// of disjoint sorted ranges (abi/layout.ts) and calls trapsChanged(). Nothing is paid elsewhere:
//   code   a frame that may hold a trapped instruction carries PageFlag.Traps, its blocks end before the places of traps, and
//          no block starts at one; such instructions run alone, and run/ asks there
//   data   a page with a trap gets no read or write entry in the TLB, so that its accesses take the slow path
import { PageFlag, TRAP_LIST_BYTES, TRAP_RANGE, TRAPS, TrapKind, TrapList } from "../abi/layout";
import {
  Callback,
  COMM_DATA,
  COMM_DENIED,
  COMM_WATCH,
  COMM_WATCH_COUNT,
  RunCode,
  WA_DATA,
  WA_IS_RAM,
  WA_KIND,
  WA_LINEAR,
  WA_PHYSICAL,
  WA_SIZE,
  WATCH_ENTRY,
  WATCH_MAX,
} from "../abi/run";
import { StopBit } from "../abi/state";
import { callWide } from "../imports";
import { stop, stopHost } from "../state/stop";
import { flushTlb } from "./context";
import { clearPageFlag, orPageFlag, pageFlags } from "./frames";

/** Ranges in both lists of code, of data. */
export let codeTraps: u32 = 0;
export let dataTraps: u32 = 0;
const counts: usize = memory.data(16); // u32 a list

const MARKED_MAX: u32 = 1024;
const marked: usize = memory.data(4096); // frames that carry PageFlag.Traps
let markedCount: u32 = 0;

const READS: u32 = TrapKind.WatchRead | TrapKind.ReadHook | TrapKind.DenyRead;
const WRITES: u32 = TrapKind.WatchWrite | TrapKind.WriteHook | TrapKind.DenyWrite;
/** The access must work on a copy, so that a callback can replace what it reads or writes. */
const COPIES: u32 = TrapKind.ReadHook | TrapKind.WriteHook | TrapKind.DenyRead | TrapKind.WatchRead;

function range(list: u32, i: u32): u32 {
  return TRAPS + list * TRAP_LIST_BYTES + i * TRAP_RANGE;
}

function count(list: u32): u32 {
  return load<u32>(counts + (list << 2));
}

/** Index of the first range that ends at or after the address. */
function lowerBound(list: u32, address: u64): u32 {
  let low: u32 = 0;
  let high = count(list);
  while (low < high) {
    const mid = (low + high) >> 1;
    if (load<u64>(range(list, mid), 8) < address) low = mid + 1;
    else high = mid;
  }
  return low;
}

/** What is asked of the bytes [first, last]. */
export function kindsIn(list: u32, first: u64, last: u64): u32 {
  let kinds: u32 = 0;
  for (let i = lowerBound(list, first), n = count(list); i < n; i++) {
    const r = range(list, i);
    if (load<u64>(r) > last) break;
    kinds |= load<u32>(r, 16);
  }
  return kinds;
}

/** The host has written lists of these lengths. */
export function setTraps(linearCode: u32, physicalCode: u32, linearData: u32, physicalData: u32): void {
  store<u32>(counts, linearCode);
  store<u32>(counts, physicalCode, 4);
  store<u32>(counts, linearData, 8);
  store<u32>(counts, physicalData, 12);
  codeTraps = linearCode + physicalCode;
  dataTraps = linearData + physicalData;
  unmarkAll();
}

/** Forgets which frames are marked; none is executed from before it is looked at again. */
export function unmarkAll(): void {
  for (let i: u32 = 0; i < markedCount; i++) clearPageFlag(load<u32>(marked + (i << 2)), PageFlag.Traps);
  markedCount = 0;
  flushTlb();
}

// --- code ---

/** May the page hold traps its frame is not marked for? */
export function unmarked(linear: u64, physical: u64, host: u32): bool {
  if (pageFlags(host) & PageFlag.Traps) return false;
  const page = linear & ~(0xfff as u64);
  if (kindsIn(TrapList.LinearCode, page, page | 0xfff)) return true;
  const frame = physical & ~(0xfff as u64);
  return kindsIn(TrapList.PhysicalCode, frame, frame | 0xfff) != 0;
}

/** Marks a frame; its decoded code must go. False: too many frames are marked. */
export function mark(host: u32): bool {
  if (markedCount == MARKED_MAX) return false;
  store<u32>(marked + (markedCount << 2), host & ~0xfff);
  markedCount++;
  orPageFlag(host, PageFlag.Traps);
  return true;
}

/** May a code trap stand at this byte of a marked frame? The frame may be mapped anywhere, so only the offset counts. */
export function trapAt(host: u32): bool {
  if (!(pageFlags(host) & PageFlag.Traps)) return false;
  const offset = u64(host & 0xfff);
  for (let list: u32 = 0; list < 2; list++) {
    for (let i: u32 = 0, n = count(list); i < n; i++) {
      const first = load<u64>(range(list, i));
      const last = load<u64>(range(list, i), 8);
      if (((offset - first) & 0xfff) <= last - first) return true;
    }
  }
  return false;
}

// --- data ---

function dataKinds(linear: u64, physical: u64, bytes: u32): u32 {
  return (
    kindsIn(TrapList.LinearData, linear, linear + bytes - 1) |
    kindsIn(TrapList.PhysicalData, physical, physical + bytes - 1)
  );
}

/** Has the page a data trap? */
export function dataTrapped(linear: u64, physical: u64): bool {
  return dataKinds(linear & ~(0xfff as u64), physical & ~(0xfff as u64), 4096) != 0;
}

// the access that is looked at
let linear1: u64 = 0;
let physical1: u64 = 0;
let bytes1: u32 = 0;
let bytesAll: u32 = 0;
let kindsHere: u32 = 0;

/** Begins to look at an access in one or two parts. Returns what is asked of it, 0: nothing. */
function look(linear: u64, p1: u64, len1: u32, next: u64, p2: u64, size: u32, which: u32): u32 {
  let kinds = dataKinds(linear, p1, len1);
  if (size > len1) kinds |= dataKinds(next, p2, size - len1);
  linear1 = linear;
  physical1 = p1;
  bytes1 = len1;
  bytesAll = size;
  kindsHere = kinds & which;
  return kindsHere;
}

function deny(kind: u32): void {
  store<u64>(COMM_DENIED, linear1);
  store<u64>(COMM_DENIED, physical1, 8);
  store<u32>(COMM_DENIED, bytesAll, 16);
  store<u32>(COMM_DENIED, kind, 20);
  stopHost(RunCode.Denied);
}

/** The instruction must not run: the bytes at its address are denied. */
export function denyFetch(linear: u64, physical: u64): void {
  linear1 = linear;
  physical1 = physical;
  bytesAll = 1;
  deny(TrapKind.DenyFetch);
}

/** Before a read. 0: read memory, 1: COMM_DATA holds what is read. Test aborted() after it. */
export function beforeRead(linear: u64, p1: u64, len1: u32, next: u64, p2: u64, size: u32): u32 {
  const kinds = look(linear, p1, len1, next, p2, size, READS);
  if (kinds & TrapKind.DenyRead) {
    deny(TrapKind.DenyRead);
    return 0;
  }
  return kinds & TrapKind.ReadHook ? callWide(Callback.MemoryRead, size, linear, p1) : 0;
}

/** After the read that beforeRead() looked at: `data` is what was read. */
export function afterRead(data: usize): void {
  if (kindsHere & TrapKind.WatchRead) note(TrapKind.WatchRead, u32(data), 0);
}

/** Before the place of a write is handed out. Returns the kinds that apply. Test aborted() after it. */
export function beforeWrite(linear: u64, p1: u64, len1: u32, next: u64, p2: u64, size: u32): u32 {
  const kinds = look(linear, p1, len1, next, p2, size, WRITES | READS);
  if (kinds & TrapKind.DenyWrite) deny(TrapKind.DenyWrite);
  return kinds;
}

/** Before the read of a read-modify-write on a copy. 1: COMM_DATA holds what is read. */
export function beforeModify(linear: u64, physical: u64, kinds: u32, size: u32): u32 {
  if (kinds & TrapKind.DenyRead) deny(TrapKind.DenyRead);
  else if (kinds & TrapKind.ReadHook) return callWide(Callback.MemoryRead, size, linear, physical);
  return 0;
}

export function worksOnCopy(kinds: u32): bool {
  return (kinds & COPIES) != 0;
}

/** The write that beforeWrite() looked at will be done unless the instruction faults; places in RAM, 0: none. */
export function noteWriteAt(host1: u32, host2: u32): void {
  if (kindsHere & TrapKind.WatchWrite) note(TrapKind.WatchWrite, host1, host2);
}

function note(kind: u32, host1: u32, host2: u32): void {
  stop(StopBit.Leave);
  const n = load<u32>(COMM_WATCH_COUNT);
  if (n == WATCH_MAX) return;
  store<u32>(COMM_WATCH_COUNT, n + 1);
  const e: usize = COMM_WATCH + n * WATCH_ENTRY;
  store<u64>(e, linear1, WA_LINEAR);
  store<u64>(e, physical1, WA_PHYSICAL);
  store<u32>(e, bytesAll, WA_SIZE);
  store<u32>(e, kind, WA_KIND);
  const whole = kind == TrapKind.WatchRead ? bytesAll : bytes1;
  const known = host1 != 0 && (whole == bytesAll || host2 != 0);
  store<u32>(e, u32(known), WA_IS_RAM);
  if (!known) return;
  memory.copy(e + WA_DATA, host1, whole);
  if (bytesAll > whole) memory.copy(e + WA_DATA + whole, host2, bytesAll - whole);
}

/** Watchpoints that the running instruction has met. */
export class WatchHits {
  @inline static count(): u32 {
    return load<u32>(COMM_WATCH_COUNT);
  }

  @inline static clear(): void {
    store<u32>(COMM_WATCH_COUNT, 0);
  }
}

/** Asks the callback about a staged write. 0: go on, 1: `data` is replaced, 2: memory stays as it is. */
export function beforeCommit(linear: u64, physical: u64, data: usize, size: u32): u32 {
  memory.copy(COMM_DATA, data, size);
  const answer = callWide(Callback.MemoryWrite, size, linear, physical);
  if (answer == 1) memory.copy(data, COMM_DATA, size);
  return answer;
}
