import type { Callback } from "../../assembly/abi/run.ts";

/** Functions of the core that the generator imports (assembly/generator/core.ts). */
export interface GeneratorImports {
  findBlock(host: number, mode: number): number;
  fetchSettled(linear: bigint): number;
  translate(linear: bigint, access: number): bigint;
  physToHost(address: bigint): number;
  frameFlags(host: number): number;
  codeLines(host: number): number;
  lineMask(offset: number, bytes: number): bigint;
  handlerHere(vector: number): bigint;
  copySite(site: number, first: number, last: number): void;
  oftenRewritten(host: number, bytes: number): number;
  oftenStaged(host: number): number;
  alwaysStaged(host: number): number;
  oftenMissed(host: number): number;
  seenTarget(branch: number, i: number): bigint;
}

/** Everything the generator exports (assembly/generator/index.ts); it works on the memory of its core. */
export interface GeneratorExports {
  /** Answers the requests in JIT_QUEUE. 0: generated code is not possible here. */
  generate(): number;
  /** A region's function is ready: its place in the table when it goes there, 0 when the region is gone. */
  linkRegion(place: number, ticket: number, base: number): number;
}

/** Everything the core exports (assembly/index.ts); it imports `memory`. u64 values cross as BigInt; addresses are offsets into `memory`. */
export interface CoreExports extends GeneratorImports {
  readonly memory: WebAssembly.Memory;
  /** Functions of the module, and generated ones after them. */
  readonly table: WebAssembly.Table;

  // --- memory map ---
  /** Once, in a memory of zeros: prepares metadata for at most `maxFrames` guest frames and resets the processor. 0 = ok, 1 = out of memory. */
  init(maxFrames: number): number;
  /** Address of `frames` zeroed 4 KiB frames, 0 when they do not fit. Grows `memory` (views must be remade). */
  allocFrames(frames: number): number;
  /** Maps [base, base + pages * 4096) to frames at `host` (RegionFlag). 0 = ok, 1 = overlap, 2 = too many regions, 3 = bad argument. */
  mapRegion(base: bigint, pages: number, host: number, flags: number): number;
  /** Removes the region that starts at `base`. 0 = ok, 1 = no such region. */
  unmapRegion(base: bigint): number;
  /** Address in `memory` of a guest-physical byte, 0 for a hole or an MMIO window. */
  physToHost(address: bigint): number;
  /** Address of a frame's byte of PageFlag; those of neighbouring frames are neighbours. Call dropTranslations() after setting one. */
  frameFlags(host: number): number;
  dropTranslations(): void;
  /** 1: the frame holds zeros only. */
  zeroPage(host: number): number;
  /** Must follow every host write into guest frames: drops decoded code and cached translations that depend on the bytes. */
  noteHostWrite(host: number, bytes: number): void;

  // --- processor ---
  /** 0 = RESET (power-up), 1 = INIT. */
  reset(kind: number): void;
  /** Must follow a change of the whole state block. */
  restored(): void;
  /** Must follow host writes to CR0/3/4, EFER, segments, RFLAGS or CPL in the state block. */
  stateChanged(): void;
  /** RFLAGS with the arithmetic flags materialised. */
  getRflags(): bigint;
  setRflags(value: bigint): void;
  /** Runs until COUNT has risen by `maxInstructions`, `work` units are used, or something needs the host. */
  run(maxInstructions: bigint, work: bigint): number;
  /** Adds completed instructions that the host carried out for the guest (kvmSkipEmulatedInstruction). */
  retire(instructions: number): void;
  /** External interrupt request; held until delivered or cleared by a negative vector. */
  raiseInterrupt(vector: number): void;
  raiseNmi(): void;
  /** Physical RDMSR/WRMSR as at CPL 0 in root operation. 0 = ok (value in COMM_VALUE), 1 = #GP(0). */
  rdmsr(index: number): number;
  wrmsr(index: number, value: bigint): number;
  /** Linear to physical for the current context; access: 1:0 0 read, 1 write, 2 fetch, 3:2 0 as now, 1 supervisor, 2 user. All ones when it faults; no state changes. */
  translate(linear: bigint, access: number): bigint;
  /** CPUID as the model answers it, into COMM_CPUID. */
  cpuid(leaf: number, subleaf: number): void;
  /** Must follow every change of the CPUID table. */
  cpuidChanged(): void;
  tsc(): bigint;
  /** Decodes up to 15 bytes at COMM_BYTES; mode: ModeBit. 7:0 length, 8 raises #UD, 9 over 15 bytes; 0: bytes are missing. */
  decodeOnly(bytes: number, mode: number): number;
  /** What generated code calls for an instruction that has no generated form (assembly/run/step.ts). */
  jitStep(site: number, rip: bigint, begun: number): number;
  /** What generated code calls after a store to bytes of decoded code. */
  jitStored(host: number, bytes: number): number;
  jitPlain(site: number): void;
  /** What generated code calls for an access that misses the TLB; 0: the interpreter must make it. */
  jitFill(linear: bigint, bytes: number, how: number): number;
  /** Code is generated for blocks that ran `threshold` times; 0: never. */
  setJit(threshold: number): void;

  /** The TLB has this many entries a table, a power of two up to 1024. Results are the same: for tests. */
  setTlbEntries(entries: number): void;
  /** The trap lists at TRAPS have these lengths now (assembly/memory/traps.ts); at most TRAP_MAX each. */
  trapsChanged(linearCode: number, physicalCode: number, linearData: number, physicalData: number): void;
  /** 1: a breakpoint at the present RIP does not stop the next run; 0: it does. */
  passBreakpoint(pass: number): void;

  // --- VMX for the host (VmxResult) ---
  vmxon(address: bigint): number;
  vmxoff(): number;
  vmclear(address: bigint): number;
  vmptrld(address: bigint): number;
  /** Current-VMCS pointer, all ones when there is none. */
  vmptrst(): bigint;
  /** Value in COMM_VALUE. */
  vmread(field: number): number;
  /** Where a field lies in the region of a VMCS, and bit 12: VMWRITE only stores it, VM entry checks it every time. 0: there is none. */
  vmcsOffset(field: number): number;
  vmwrite(field: number, value: bigint): number;
  /** The same without a BigInt; VMREAD's halves are the two words at COMM_VALUE. */
  vmwriteHalves(field: number, low: number, high: number): number;
  /**
   * VM entry from the host. Succeed: the processor is in non-root operation and run() continues the guest.
   * An entry failure after the host state was loaded is a VM exit with reason bit 31: Succeed too, and run() returns VmExit at once.
   */
  vmlaunch(): number;
  vmresume(): number;
  invept(type: number, eptp: bigint): number;
  invvpid(type: number, vpid: number, linear: bigint): number;
}

/** Imports of the module (assembly/imports.ts): callbacks by their number. */
export interface CoreImports {
  call(callback: Callback, a: number, b: number, c: number): number;
  callWide(callback: Callback, a: number, b: bigint, c: bigint): number;
  mmioRead(address: bigint, size: number): bigint;
}
