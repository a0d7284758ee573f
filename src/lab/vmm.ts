import type { SegmentRegister } from "../core/index.ts";
import { DebugConsole, DebugExit, PortBus, Serial } from "../devices/index.ts";
import {
  type CpuidEntry,
  type DescriptorTable,
  GPR_NAMES,
  Kvm,
  KvmError,
  type KvmExit,
  type KvmOptions,
  type Regs,
  type Segment,
  type Sregs,
  type Vcpu,
} from "../kvm/index.ts";
import type { BootOptions, GuestImage, RegisterUpdate, StartState } from "../machine/index.ts";
import { imageMemory, startState } from "../machine/index.ts";

const CR0_PG = 1n << 31n;
const EFER_LME = 1n << 8n;
const EFER_LMA = 1n << 10n;
const DEFAULT_MEMORY = 16 << 20;
/** Units of work that the REP instructions of a run with maxInstructions may use beyond its instructions. */
const REP_ALLOWANCE = 4_000_000n;

/** How a guest's run ended. */
export type GuestEnding =
  | { readonly kind: "exit" /** What was written to port 0xF4. */; readonly status: number }
  | { readonly kind: "halt" }
  | { readonly kind: "shutdown" }
  | { readonly kind: "limit" }
  /** The work bound that goes with maxInstructions: a REP that never completes counts no instruction. */
  | { readonly kind: "workLimit" }
  | { readonly kind: "interrupted" }
  | { readonly kind: "failed"; readonly message: string };

export interface VmmOptions extends KvmOptions {
  readonly image: GuestImage;
  /** Command line and modules, for an image with a boot protocol. */
  readonly boot?: BootOptions;
  /** Bytes of RAM. Default 16 MiB. */
  readonly memory?: number;
  readonly maxInstructions?: number;
  /** vCPUs of the VM. With more than one the interrupt controllers are in the kernel, and the others wait for INIT and SIPI. */
  readonly vcpus?: number;
  /** runSteps yields where a vCPU waits; see RunBounds. */
  readonly yieldWhenWaiting?: boolean;
  readonly console?: (byte: number) => void;
  /** A timer interrupt after every so many instructions of the guest, at which runSteps yields. */
  readonly preemptEvery?: number;
  /** Calls that do not enter the guest (KVM_GET_REGS) after every exit to user space. */
  readonly ioctlsPerExit?: number;
  /** Called whenever the VMM's thread is back in user space. */
  readonly inUserSpace?: () => void;
  /** runSteps yields there too, so that a caller who counts steps misses none. */
  readonly yieldInUserSpace?: boolean;
  /** COUNT of the processor at which runSteps yields next, exactly; see RunBounds. */
  readonly pauseAt?: () => bigint;
}

/** A VMM with RAM at 0, a debug console, a serial port and the exit port: what a KVM user writes. */
export class Vmm {
  readonly kvm: Kvm;
  readonly vcpus: readonly Vcpu[];
  /** The UART at 0x3F8, for what the guest is to read. */
  readonly serial: Serial;
  readonly #bus: PortBus;
  readonly #limit: bigint;
  readonly #workLimit: bigint | undefined;
  readonly #options: VmmOptions;
  #status: number | undefined;

  constructor(options: VmmOptions) {
    const memory = options.memory ?? DEFAULT_MEMORY;
    this.#options = options;
    this.kvm = new Kvm({ ...options, hostOptions: { ...options.hostOptions, memory } });
    const vm = this.kvm.createVm();
    const userspaceAddr = vm.allocMemory(BigInt(memory));
    vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memorySize: BigInt(memory), userspaceAddr });
    for (const { address, data } of imageMemory(options.image, memory, options.boot)) {
      vm.writeMemory(userspaceAddr + BigInt(address), data);
    }
    const count = options.vcpus ?? 1;
    if (count > 1) vm.createIrqchip();
    const cpuid = this.kvm.getSupportedCpuid();
    this.vcpus = Array.from({ length: count }, (_, id) => {
      const vcpu = vm.createVcpu(id);
      vcpu.setCpuid2(cpuid.map((entry) => withApicId(entry, id)));
      return vcpu;
    });
    enterAt(this.vcpu, startState(options.image, memory, options.boot));
    const emit = options.console ?? (() => {});
    this.serial = new Serial(emit);
    this.#bus = new PortBus()
      .add(new DebugConsole(emit))
      .add(this.serial)
      .add(
        new DebugExit((value) => {
          this.#status = value;
        }),
      );
    const { maxInstructions } = options;
    this.#limit = BigInt(maxInstructions ?? Number.MAX_SAFE_INTEGER);
    this.#workLimit = maxInstructions === undefined ? undefined : 2n * this.#limit + REP_ALLOWANCE;
  }

  /** The boot processor. */
  get vcpu(): Vcpu {
    return this.vcpus[0]!;
  }

  /**
   * The thread of one vCPU. Runs to the end of the guest; yields every `slice` work units. What is sent is the next slice;
   * 0 interrupts.
   */
  *runSteps(firstSlice?: bigint, vcpu = this.vcpu): Generator<void, GuestEnding, bigint | undefined> {
    const { vmx } = vcpu;
    const start = vmx.instructions;
    const startWork = vmx.work;
    const { preemptEvery = 0, ioctlsPerExit = 0, inUserSpace, pauseAt, yieldWhenWaiting = false } = this.#options;
    let slice = firstSlice;
    for (;;) {
      const left = this.#limit - (vmx.instructions - start);
      const work = this.#workLimit === undefined ? undefined : this.#workLimit - (vmx.work - startWork);
      const steps = vcpu.runSteps({
        maxInstructions: left,
        yieldWhenWaiting,
        ...(work === undefined ? {} : { work }),
        ...(slice === undefined ? {} : { slice }),
        ...(pauseAt === undefined ? {} : { pauseAt }),
        ...(preemptEvery === 0 ? {} : { preemptEvery: BigInt(preemptEvery) }),
      });
      let step = stepOf(steps, undefined);
      while (step !== undefined && !step.done) {
        slice = (yield) ?? slice;
        step = stepOf(steps, slice);
      }
      inUserSpace?.();
      if (step === undefined) continue;
      for (let call = 0; call < ioctlsPerExit; call++) vcpu.getRegs();
      const ending = this.#handle(vcpu, step.value);
      if (ending?.kind === "limit" && slice === 0n) return { kind: "interrupted" };
      if (ending?.kind === "limit" && vmx.instructions - start < this.#limit) return { kind: "workLimit" };
      if (ending !== undefined) return ending;
      if (this.#options.yieldInUserSpace) {
        slice = (yield) ?? slice;
        if (slice === 0n) return { kind: "interrupted" };
      }
    }
  }

  /** Runs to the end of the guest. */
  run(): GuestEnding {
    const steps = this.runSteps();
    for (;;) {
      const step = steps.next();
      if (step.done) return step.value;
    }
  }

  #handle(vcpu: Vcpu, exit: KvmExit): GuestEnding | undefined {
    switch (exit.reason) {
      case "io":
        carryOut(this.#bus, exit);
        if (this.#status === undefined) return undefined;
        // later kernels complete an OUT at the next KVM_RUN only
        if (!this.kvm.rules.pioSkipsFirst) vcpu.run({ immediateExit: true });
        return { kind: "exit", status: this.#status };
      case "hlt":
        return { kind: "halt" };
      case "shutdown":
        return { kind: "shutdown" };
      case "intr":
        return { kind: "limit" };
      case "setTpr":
      case "irqWindowOpen":
        return undefined;
      case "failEntry":
        return { kind: "failed", message: `VM entry failed: 0x${exit.hardwareEntryFailureReason.toString(16)}` };
      case "internalError":
        return { kind: "failed", message: exit.message };
      case "unknown":
        return { kind: "failed", message: `unknown VM exit ${exit.hardwareExitReason}` };
    }
  }
}

/** One step of KVM_RUN; undefined for EAGAIN, after which it is called again. */
function stepOf(
  steps: ReturnType<Vcpu["runSteps"]>,
  slice: bigint | undefined,
): IteratorResult<void, KvmExit> | undefined {
  try {
    return steps.next(slice);
  } catch (error) {
    if (error instanceof KvmError && error.code === "EAGAIN") return undefined;
    throw error;
  }
}

/** CPUID leaf 1 has the APIC ID in EBX 31:24. */
function withApicId(entry: CpuidEntry, id: number): CpuidEntry {
  return entry.function === 1 ? { ...entry, ebx: ((entry.ebx & 0xff_ffff) | (id << 24)) >>> 0 } : entry;
}

/** The items of a port access, one after the other; what is read goes into the run page. */
export function carryOut(
  bus: PortBus,
  { port, size, count, data, direction }: Extract<KvmExit, { reason: "io" }>,
): void {
  for (let item = 0; item < count; item++) {
    const bytes = data.subarray(item * size, (item + 1) * size);
    if (direction === "out") {
      const value = bytes.reduceRight((sum, byte) => sum * 256 + byte, 0);
      bus.write(port, value, size);
    } else {
      const value = bus.read(port, size);
      for (let i = 0; i < size; i++) bytes[i] = (value >>> (8 * i)) & 0xff;
    }
  }
}

/** Access rights of the start state as a kvm_segment. */
export function toSegment(from: Partial<SegmentRegister>): Segment {
  const { selector = 0, base = 0n, limit = 0, attributes: a = 0 } = from;
  const unusable = (a >> 16) & 1;
  return {
    base,
    limit,
    selector,
    type: a & 15,
    present: unusable ? 0 : (a >> 7) & 1,
    dpl: (a >> 5) & 3,
    db: (a >> 14) & 1,
    s: (a >> 4) & 1,
    l: (a >> 13) & 1,
    g: (a >> 15) & 1,
    avl: (a >> 12) & 1,
    unusable,
  };
}

const wide = (value: bigint | number): bigint => BigInt(value);

function table(from: RegisterUpdate["gdtr"]): DescriptorTable {
  return { base: wide(from?.base ?? 0n), limit: from?.limit ?? 0 };
}

function segments(update: RegisterUpdate): Partial<Sregs> {
  const out: Partial<Sregs> = {};
  for (const name of ["cs", "ds", "es", "fs", "gs", "ss", "tr"] as const) {
    const value = update[name];
    if (value !== undefined) out[name] = toSegment(value);
  }
  if (update.ldtr !== undefined) out.ldt = toSegment(update.ldtr);
  return out;
}

/** KVM_SET_SREGS and KVM_SET_REGS as the start state asks. */
export function enterAt(vcpu: Vcpu, start: StartState): void {
  const update = start.registers;
  const before = vcpu.getSregs();
  const cr0 = wide(update.cr0 ?? before.cr0);
  const efer = wide(update.efer ?? before.efer);
  const long = (cr0 & CR0_PG) !== 0n && (efer & EFER_LME) !== 0n;
  vcpu.setSregs({
    ...before,
    ...segments(update),
    gdt: { ...before.gdt, ...table(update.gdtr) },
    idt: { ...before.idt, ...table(update.idtr) },
    cr0,
    cr3: wide(update.cr3 ?? before.cr3),
    cr4: wide(update.cr4 ?? before.cr4),
    efer: long ? efer | EFER_LMA : efer,
  });
  const regs = Object.fromEntries(GPR_NAMES.map((name) => [name, wide(update[name] ?? 0n)])) as Regs;
  vcpu.setRegs({ ...regs, rip: wide(update.rip ?? 0n), rflags: wide(update.rflags ?? 2n) });
}
