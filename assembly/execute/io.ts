// IN, OUT, INS, OUTS. Order: I/O permission, VM exit, then segment faults, then the access.
// @sdm 2A "IN-Input from Port", "INS/INSB/INSW/INSD"; 2B "OUT", "OUTS"; @sdm 1 "I/O Privilege Level"

import { R_ADDR_SHIFT, R_FLAGS, R_IMM, R_SIZE, RecordFlag } from "../abi/record";
import { Callback } from "../abi/run";
import {
  DEBUG_WATCH,
  EFLAGS_REST,
  HOOKS,
  HookBit,
  LINEAR_MASK,
  RAX,
  RCX,
  RDI,
  RDX,
  RSI,
  SEG_ES,
  SEGS,
  SG_EFFECTIVE,
  STOP,
  StopBit,
  WatchBit,
  WORK,
  WORK_LIMIT,
} from "../abi/state";
import { FLAG_DF, FLAG_TF } from "../abi/x86";
import { call } from "../imports";
import { probeWrite, readMem } from "../memory/access";
import { commit } from "../memory/staging";
import { notePort } from "../memory/watch";
import { aborted, stop } from "../state/stop";
import { portAllowed } from "../system/tss";
import { exitIo, nonRoot } from "../vmx/intercept";
import { segmentOf } from "./operands";
import { enterHook, leaveHook } from "./privilege";

// exit qualification
const IO_IN: u32 = 8;
const IO_STRING: u32 = 0x10;
const IO_REP: u32 = 0x20;
const IO_IMMEDIATE: u32 = 0x40;

export function inImm(rec: usize): void {
  input(<u32>load<u8>(rec, R_IMM), IO_IN | IO_IMMEDIATE, rec);
}

export function inDx(rec: usize): void {
  input(<u32>load<u16>(RDX), IO_IN, rec);
}

export function outImm(rec: usize): void {
  output(<u32>load<u8>(rec, R_IMM), IO_IMMEDIATE, rec);
}

export function outDx(rec: usize): void {
  output(<u32>load<u16>(RDX), 0, rec);
}

/** No device: all ones. Test aborted() after it. */
function readPort(port: u32, size: u32, rec: usize): u32 {
  if (load<u32>(DEBUG_WATCH) & WatchBit.Io) notePort(port, size);
  if (!(load<u32>(HOOKS) & HookBit.PortIn)) return 0xffffffff;
  enterHook(rec);
  const value = call(Callback.PortIn, port, size, 0);
  leaveHook(rec);
  return value;
}

function writePort(port: u32, size: u32, value: u32, rec: usize): void {
  if (load<u32>(DEBUG_WATCH) & WatchBit.Io) notePort(port, size);
  if (!(load<u32>(HOOKS) & HookBit.PortOut)) return;
  enterHook(rec);
  call(Callback.PortOut, port, size, value);
  leaveHook(rec);
}

function input(port: u32, bits: u32, rec: usize): void {
  const size: u32 = load<u8>(rec, R_SIZE);
  if (!portAllowed(port, size)) return;
  if (nonRoot() && exitIo(port, size, bits, 0, rec)) return;
  const value = readPort(port, size, rec);
  if (aborted()) return;
  if (size == 1) store<u8>(RAX, <u8>value);
  else if (size == 2) store<u16>(RAX, <u16>value);
  else store<u64>(RAX, <u64>value);
}

function output(port: u32, bits: u32, rec: usize): void {
  const size: u32 = load<u8>(rec, R_SIZE);
  if (!portAllowed(port, size)) return;
  if (nonRoot() && exitIo(port, size, bits, 0, rec)) return;
  const value = load<u32>(RAX);
  writePort(port, size, size == 1 ? value & 0xff : size == 2 ? value & 0xffff : value, rec);
}

// --- string forms: each iteration is committed, so that a fault or the end of a slice leaves a resumable state ---

function truncated(rec: usize, value: u64): u64 {
  const shift = <u64>load<u8>(rec, R_ADDR_SHIFT);
  return (value << shift) >> shift;
}

function advance(rec: usize, register: usize, by: u64): void {
  const shift = load<u8>(rec, R_ADDR_SHIFT);
  const value = load<u64>(register) + by;
  if (shift == 48) store<u16>(register, <u16>value);
  else store<u64>(register, shift == 32 ? value & 0xffffffff : value);
}

function repeats(rec: usize): bool {
  return (load<u8>(rec, R_FLAGS) & (RecordFlag.Rep | RecordFlag.Repne)) != 0;
}

/** Permission and VM exit of a string form. False: it must not go on. */
function begins(rec: usize, port: u32, size: u32, bits: u32, seg: u32, register: usize): bool {
  if (!portAllowed(port, size)) return false;
  if (!nonRoot()) return true;
  const linear = (load<u64>(SEGS + seg + SG_EFFECTIVE) + truncated(rec, load<u64>(register))) & load<u64>(LINEAR_MASK);
  return !exitIo(port, size, bits | IO_STRING | (repeats(rec) ? IO_REP : 0), linear, rec);
}

/** After an iteration. False: leave the loop (done, or the slice is over). One port access is one unit of work. */
function goOn(rec: usize): bool {
  if (!repeats(rec)) return false;
  advance(rec, RCX, ~(0 as u64));
  if (truncated(rec, load<u64>(RCX)) == 0) return false;
  if (load<u32>(STOP) & StopBit.Commit) commit();
  const work = load<u64>(WORK) + 1;
  store<u64>(WORK, work);
  const stepping = load<u32>(EFLAGS_REST) & FLAG_TF;
  if (load<u32>(STOP) == 0 && work < load<u64>(WORK_LIMIT) && !stepping) return true;
  stop(StopBit.Repeat);
  return false;
}

/** A count of zero: only the permission is checked, as processors do. */
function nothingToDo(rec: usize, port: u32, size: u32): bool {
  if (!repeats(rec) || truncated(rec, load<u64>(RCX)) != 0) return false;
  portAllowed(port, size);
  return true;
}

function step(size: u32): u64 {
  return load<u32>(EFLAGS_REST) & FLAG_DF ? 0 - <u64>size : <u64>size;
}

/** To ES:[rDI], which no prefix overrides. */
export function ins(rec: usize): void {
  const size: u32 = load<u8>(rec, R_SIZE);
  const port = <u32>load<u16>(RDX);
  if (nothingToDo(rec, port, size)) return;
  if (!begins(rec, port, size, IO_IN, SEG_ES, RDI)) return;
  const by = step(size);
  do {
    const host = probeWrite(SEG_ES, truncated(rec, load<u64>(RDI)), size);
    if (aborted()) return;
    const value = readPort(port, size, rec);
    if (aborted()) return;
    if (size == 1) store<u8>(host, <u8>value);
    else if (size == 2) store<u16>(host, <u16>value);
    else store<u32>(host, value);
    advance(rec, RDI, by);
  } while (goOn(rec));
}

export function outs(rec: usize): void {
  const size: u32 = load<u8>(rec, R_SIZE);
  const port = <u32>load<u16>(RDX);
  if (nothingToDo(rec, port, size)) return;
  const seg = segmentOf(rec);
  if (!begins(rec, port, size, 0, seg, RSI)) return;
  const by = step(size);
  do {
    const at = truncated(rec, load<u64>(RSI));
    const value: u32 =
      size == 1 ? <u32>readMem<u8>(seg, at) : size == 2 ? <u32>readMem<u16>(seg, at) : readMem<u32>(seg, at);
    if (aborted()) return;
    writePort(port, size, value, rec);
    if (aborted()) return;
    advance(rec, RSI, by);
  } while (goOn(rec));
}
