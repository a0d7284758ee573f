// Every export of the Wasm module; src/core/exports.ts describes them.

import { CPUID_TABLE } from "./abi/layout";
import { COMM_BYTES } from "./abi/run";
import { CPL, EXTRA, HOST_DEADLINE, PENDING_INTR, PENDING_NMI } from "./abi/state";
import { dropAllBlocks } from "./blocks/cache";
import { decodeOnly as decodeAt } from "./decode/decodeOnly";
import { initTables } from "./decode/tables";
import { dropRegions, setJit } from "./jit/manage";
import { translateQuiet } from "./memory/access";
import { flushTlb, setTlbEntries as resizeTlb } from "./memory/context";
import { allocFrames, initFrames } from "./memory/frames";
import { mapRegion as mapFrames, physToHost, unmapRegion as unmapFrames } from "./memory/physical";
import { updateWatch } from "./memory/watch";
import { run } from "./run/loop";
import { passBreakpoint } from "./run/traps";
import { getRflags, setRflags } from "./state/flags";
import { answerCpuid, cpuidChanged as forgetFeatures } from "./system/cpuid";
import { CpuidAnswers } from "./system/cpuidCache";
import { recomputeMode } from "./system/mode";
import { readMsr, writeMsr } from "./system/msr";
import { forgetMsrPlaces } from "./system/msrPlaces";
import { initProcessor, resetProcessor } from "./system/reset";
import { readTsc } from "./system/time";
import { initSignal } from "./vmx/boundary";
import { forgetVmcs } from "./vmx/cache";
import { NO_DEADLINE } from "./vmx/timer";
import { offerFields, remapVmcs, resetVmx } from "./vmx/vmcs";

// for the generator (assembly/generator/core.ts), beside some of the others
export { findBlock } from "./blocks/cache";
export { handlerHere } from "./events/short";
export { alwaysStaged, oftenMissed, oftenRewritten, oftenStaged } from "./jit/rewritten";
export { seenTarget } from "./jit/seen";
export { copySite } from "./jit/site";
export { fetchSettled, fillSettled as jitFill } from "./memory/access";
export { flushTlb as dropTranslations } from "./memory/context";
export { codeLines, flagsAddress as frameFlags, lineMask, zeroPage } from "./memory/frames";
export { drainHostWrites as noteHostWrite, retire } from "./run/host";
export { jitPlain, jitStep, jitStored } from "./run/step";
export { trapsChanged } from "./run/traps";
export {
  hostInvept as invept,
  hostInvvpid as invvpid,
  hostVmclear as vmclear,
  hostVmcsOffset as vmcsOffset,
  hostVmlaunch as vmlaunch,
  hostVmptrld as vmptrld,
  hostVmptrst as vmptrst,
  hostVmread as vmread,
  hostVmresume as vmresume,
  hostVmwrite as vmwrite,
  hostVmwriteHalves as vmwriteHalves,
  hostVmxoff as vmxoff,
  hostVmxon as vmxon,
} from "./vmx/host";
export { allocFrames, answerCpuid as cpuid, getRflags, passBreakpoint, physToHost, run, setJit, setRflags };

/** Once, before everything else. */
export function init(maxFrames: u32): u32 {
  if (__heap_base > <usize>CPUID_TABLE) unreachable();
  if (!initFrames(maxFrames)) return 1;
  initTables();
  forgetMsrPlaces();
  forgetFeatures();
  store<u64>(HOST_DEADLINE, NO_DEADLINE);
  resetProcessor();
  resetVmx();
  dropRegions();
  return 0;
}

export function mapRegion(base: u64, pages: u32, host: u32, flags: u32): u32 {
  const result = mapFrames(base, pages, host, flags);
  dropRegions();
  remapVmcs();
  return result;
}

export function unmapRegion(base: u64): u32 {
  const result = unmapFrames(base);
  dropRegions();
  remapVmcs();
  return result;
}

/** INIT is blocked in VMX root operation and makes a guest exit. */
export function reset(kind: u32): void {
  if (!kind) {
    resetProcessor();
    resetVmx();
  } else if (initSignal() == 0) {
    initProcessor();
  }
  store<u32>(EXTRA, 1);
}

export function stateChanged(): void {
  CpuidAnswers.forget();
  forgetMsrPlaces();
  updateWatch(true);
  recomputeMode();
  forgetVmcs();
  store<u32>(EXTRA, 1);
}

/** Must follow a change of the whole state block. */
export function restored(): void {
  passBreakpoint(0);
  remapVmcs();
  updateWatch(true);
  flushTlb();
  recomputeMode();
  store<u32>(EXTRA, 1);
}

export function raiseInterrupt(vector: i32): void {
  store<u32>(PENDING_INTR, vector < 0 ? 0 : (u32(vector) & 0xff) | 0x80000000);
  store<u32>(EXTRA, 1);
}

export function raiseNmi(): void {
  store<u32>(PENDING_NMI, 1);
  store<u32>(EXTRA, 1);
}

export function rdmsr(index: u32): u32 {
  return readMsr(index, 0) ? 0 : 1;
}

export function wrmsr(index: u32, value: u64): u32 {
  return writeMsr(index, value, 0) ? 0 : 1;
}

/** access: 1:0 0 read, 1 write, 2 fetch; 3:2 0 at the present privilege, 1 supervisor, 2 user. */
export function translate(linear: u64, access: u32): u64 {
  const user = access >> 2 ? access >> 2 == 2 : load<u32>(CPL) == 3;
  return translateQuiet(linear, 1 << (access & 3), user);
}

export function tsc(): u64 {
  return readTsc(0);
}

/** Bytes at COMM_BYTES. See decode/decodeOnly.ts. */
export function decodeOnly(bytes: u32, mode: u32): u32 {
  return decodeAt(COMM_BYTES, bytes, mode);
}

export function setTlbEntries(entries: u32): void {
  dropRegions();
  resizeTlb(entries);
}

/** Decoded code depends on the features too. */
export function cpuidChanged(): void {
  forgetFeatures();
  forgetMsrPlaces();
  offerFields();
  dropAllBlocks();
}
