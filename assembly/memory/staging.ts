// The write log: a store that is not plain memory (code, page tables, ROM, MMIO, two pages) goes to a staged copy,
// and reaches memory in commit(), after everything of the instruction that can fault.
import { PAGE_NO_WRITE_ENTRY, PageFlag, STAGING, STAGING_SIZE, TrapKind } from "../abi/layout";
import { Callback, COMM_DATA, RunCode } from "../abi/run";
import { APIC_WRITE, STOP, StopBit } from "../abi/state";
import { callWide, mmioRead } from "../imports";
import { aborted, stop, stopHost } from "../state/stop";
import { deviceAddress, isEmulated, pieceBytes } from "./emulate";
import { noteStored, pageFlags } from "./frames";
import { dropMapped } from "./pageTables";
import { isMmio } from "./physical";
import { afterRead, beforeCommit, beforeModify } from "./traps";

// entry: 64 bytes of data, then
const ST_SIZE: usize = 64; // u32 bytes staged
const ST_LEN1: usize = 68; // u32 bytes in the first page
const ST_HOST1: usize = 72; // u32 first address in linear memory, 0: not RAM
const ST_HOST2: usize = 76; // u32 second page
const ST_PHYS1: usize = 80; // u64 physical address, for MMIO
const ST_PHYS2: usize = 88;
const ENTRY: u32 = 96;
const MAX: u32 = STAGING_SIZE / ENTRY;
let count: u32 = 0;
/** u64 linear address and u32 TrapKind bits of each entry that callbacks are asked about. */
const hooked: usize = memory.data(MAX * 16);
/** Entries with such bits. */
let hooks: u32 = 0;

// instructions of a block may not meet a device, for RIP and COUNT are not exact there
let alone: bool = true;

/** Does one instruction run by itself, or none? Returns what held before. */
export function setAlone(on: bool): bool {
  const before = alone;
  alone = on;
  return before;
}

/** True: an instruction of a block has come to a device; it is stopped and runs again by itself. */
function mustRunAlone(pa: u64): bool {
  if (alone || !isMmio(pa)) return false;
  stop(StopBit.Alone);
  return true;
}

function isDevice(pa: u64): bool {
  return isEmulated(pa) || isMmio(pa);
}

/** Reads one piece (pieceBytes) of a place that is no RAM; a hole reads all ones. */
export function deviceRead(pa: u64, bytes: u32): u64 {
  if (mustRunAlone(pa)) return 0;
  return isDevice(pa) ? mmioRead(deviceAddress(pa), bytes) : ~(0 as u64);
}

function deviceWrite(pa: u64, data: usize, bytes: u32): void {
  if (!isDevice(pa)) return;
  while (bytes) {
    const n = pieceBytes(pa, bytes);
    store<u64>(BUFFER, 0);
    memory.copy(BUFFER, data, n);
    callWide(Callback.MmioWrite, n, deviceAddress(pa), load<u64>(BUFFER));
    pa += n;
    data += n;
    bytes -= n;
  }
}
const BUFFER: usize = memory.data(16);

/** memory.copy() is a call of the engine's; most operands have one of two sizes. */
function copy(to: usize, from: usize, bytes: u32): void {
  if (bytes == 4) store<u32>(to, load<u32>(from));
  else if (bytes == 8) store<u64>(to, load<u64>(from));
  else memory.copy(to, from, bytes);
}

function fetch(to: usize, host: u32, pa: u64, bytes: u32): void {
  if (host) copy(to, host, bytes);
  else if (!isDevice(pa)) memory.fill(to, 0xff, bytes);
}

/**
 * Opens a staged write of at most 64 bytes; the present contents of RAM are copied in, so that a read-modify-write works on the copy.
 * Returns the address to store to, 0 when the log is full.
 */
export function stage(size: u32, host1: u32, phys1: u64, len1: u32, host2: u32, phys2: u64): u32 {
  if (count == MAX || size > 64) {
    stopHost(RunCode.Internal);
    return 0;
  }
  if ((!host1 && mustRunAlone(phys1)) || (size > len1 && !host2 && mustRunAlone(phys2))) return 0;
  const e = STAGING + count * ENTRY;
  count++;
  fetch(e, host1, phys1, len1);
  if (size > len1) fetch(e + len1, host2, phys2, size - len1);
  store<u32>(e, size, ST_SIZE);
  store<u32>(e, len1, ST_LEN1);
  store<u32>(e, host1, ST_HOST1);
  store<u32>(e, host2, ST_HOST2);
  store<u64>(e, phys1, ST_PHYS1);
  store<u64>(e, phys2, ST_PHYS2);
  store<u32>(note(e), 0, 8);
  stop(StopBit.Commit);
  return e;
}

function note(at: u32): usize {
  return hooked + ((at - STAGING) / ENTRY) * 16;
}

/** A callback wants to see this staged write, or the read of its place. */
export function stageHooked(at: u32, linear: u64, kinds: u32): void {
  store<u64>(note(at), linear);
  store<u32>(note(at), kinds, 8);
  hooks++;
}

/** Asks the device for the parts of a staged copy that are no RAM, for read-modify-write; plain stores do not ask. */
export function stageRead(at: u32): void {
  const len1 = load<u32>(at, ST_LEN1);
  const size = load<u32>(at, ST_SIZE);
  if (load<u32>(note(at), 8)) {
    const linear = load<u64>(note(at));
    const replaced = beforeModify(linear, load<u64>(at, ST_PHYS1), load<u32>(note(at), 8), size);
    if (replaced) memory.copy(at, COMM_DATA, size);
    else if (!aborted()) askDevices(at, len1, size);
    if (!aborted()) afterRead(at);
  } else askDevices(at, len1, size);
}

function askDevices(at: u32, len1: u32, size: u32): void {
  if (!load<u32>(at, ST_HOST1)) askDevice(at, load<u64>(at, ST_PHYS1), len1);
  if (size > len1 && !load<u32>(at, ST_HOST2)) askDevice(at + len1, load<u64>(at, ST_PHYS2), size - len1);
}

function askDevice(to: u32, pa: u64, bytes: u32): void {
  if (!isDevice(pa)) return;
  while (bytes && !aborted()) {
    const n = pieceBytes(pa, bytes);
    store<u64>(BUFFER, mmioRead(deviceAddress(pa), n));
    memory.copy(to, BUFFER, n);
    pa += n;
    to += n;
    bytes -= n;
  }
}

/** Goes the first staged write to page tables and nothing else? */
export function stagesTable(): bool {
  return (pageFlags(load<u32>(STAGING, ST_HOST1)) & PAGE_NO_WRITE_ENTRY) == PageFlag.PageTable;
}

function put(host: u32, pa: u64, data: usize, bytes: u32): void {
  if (!host) {
    deviceWrite(pa, data, bytes);
    return;
  }
  const flags = pageFlags(host);
  if (flags & PageFlag.ReadOnly) return;
  if (flags & PageFlag.PageTable) dropMapped(host, bytes, false);
  copy(host, data, bytes);
  noteStored(host, bytes);
}

/** The callbacks are asked about every write before the first one is done. */
function askHooks(): void {
  hooks = 0;
  for (let i: u32 = 0; i < count && !aborted(); i++) {
    const e = STAGING + i * ENTRY;
    if (!(load<u32>(note(e), 8) & TrapKind.WriteHook)) continue;
    const answer = beforeCommit(load<u64>(note(e)), load<u64>(e, ST_PHYS1), e, load<u32>(e, ST_SIZE));
    if (answer == 2) store<u32>(e, 0, ST_SIZE);
  }
}

/** Carries out the staged writes in order. */
export function commit(): void {
  store<u32>(STOP, load<u32>(STOP) & ~StopBit.Commit);
  if (hooks) {
    askHooks();
    if (aborted()) {
      count = 0;
      return;
    }
  }
  for (let i: u32 = 0; i < count; i++) {
    const e = STAGING + i * ENTRY;
    const len1 = load<u32>(e, ST_LEN1);
    const size = load<u32>(e, ST_SIZE);
    if (!size) continue; // a callback took it
    put(load<u32>(e, ST_HOST1), load<u64>(e, ST_PHYS1), e, len1);
    if (size > len1) put(load<u32>(e, ST_HOST2), load<u64>(e, ST_PHYS2), e + len1, size - len1);
  }
  count = 0;
}

export class Staged {
  /** discard() that leaves StopBit.Commit. */
  @inline static drop(): void {
    store<u32>(APIC_WRITE, 0);
    count = 0;
    hooks = 0;
  }
}

/** Drops the staged writes of an instruction that did not complete. */
export function discard(): void {
  store<u32>(STOP, load<u32>(STOP) & ~StopBit.Commit);
  Staged.drop();
}
