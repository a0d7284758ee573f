import { TrapKind, TrapList } from "../../assembly/abi/layout.ts";
import { SEG_CS, VMX_STATE, VmxBit } from "../../assembly/abi/state.ts";
import { kvmGvaToGpa } from "../../src/kvm/mmu.ts";
import { getDebugRegs, getRegs, getSregs } from "../../src/kvm/registers.ts";
import type { Segment } from "../../src/kvm/segments.ts";
import { Field } from "../../src/kvm/vmcs-fields.ts";
import { type GuestEnding, Vmm } from "../../src/lab/vmm.ts";
import { type GuestImage, Registers, type RegisterValues } from "../../src/machine/index.ts";
import { type Trap, TrapSet } from "../../src/machine/traps.ts";
import { VmxLog } from "../vmx/log.ts";
import type { MachineSettings } from "./protocol.ts";
import { type Ending, exitText, HALTED, type Session, type SessionOptions, SHUTDOWN } from "./session.ts";

const MEMORY = 16 << 20;

function toRegister({ selector, base, limit, type, s, dpl, present, avl, l, db, g, unusable }: Segment) {
  const attributes =
    type | (s << 4) | (dpl << 5) | (present << 7) | (avl << 12) | (l << 13) | (db << 14) | (g << 15) | (unusable << 16);
  return { selector, base, limit, attributes };
}

/** A guest in VMX non-root operation under KVM's paths. Looking at it changes nothing that is counted. */
export class KvmSession implements Session {
  readonly vmx: VmxLog;
  ending: Ending | undefined;
  atBreakpoint = false;
  readonly #traps: TrapSet;
  #breakpoints: { readonly trap: Trap; readonly address: number }[] = [];
  /** Where the guest stood when breakpoints were set: it goes on from there. */
  #from: { readonly rip: number; readonly count: number } | undefined;
  readonly #vmm: Vmm;
  readonly #start: bigint;
  #pauseAt = 0n;
  #steps: Generator<void, GuestEnding, bigint | undefined> | undefined;

  constructor(image: GuestImage, settings: MachineSettings, options: SessionOptions) {
    const { policy, kernel, hostValue } = settings;
    const hostOptions = { hostValue };
    const { console } = options;
    const pauseAt = (): bigint => this.#pauseAt;
    this.#vmm = new Vmm({
      image,
      memory: MEMORY,
      policy,
      kernel,
      hostOptions,
      console,
      yieldInUserSpace: true,
      pauseAt,
    });
    const { host } = this.#vmm.kvm;
    host.ledger.restart();
    this.#start = host.core.count;
    this.#traps = new TrapSet(host.core);
    this.vmx = new VmxLog(this.#vmm.vcpu.vmx);
    host.trace = this.vmx.sink;
  }

  get #vcpu() {
    return this.#vmm.vcpu.vmx;
  }

  get #core() {
    return this.#vmm.kvm.host.core;
  }

  /** The processor is in the guest now: its registers are the guest's. */
  get inGuest(): boolean {
    return (this.#core.read32(VMX_STATE) & VmxBit.NonRoot) !== 0;
  }

  get count(): number {
    return Number(this.#core.count - this.#start);
  }

  get rip(): number {
    const { codeMode } = this;
    const vcpu = this.#vcpu;
    const core = this.#core;
    const rip = this.inGuest ? core.rip : vcpu.rip;
    if (codeMode === 64) return Number(BigInt.asUintN(64, rip));
    const base = this.inGuest ? core.segment(SEG_CS).base : vcpu.vmread(Field.GUEST_CS_BASE);
    return Number(BigInt.asUintN(32, base + rip));
  }

  get codeMode(): 16 | 32 | 64 {
    if (this.inGuest) return this.#core.codeMode;
    const { cs, efer } = getSregs(this.#vcpu);
    if (cs.l && efer & (1n << 10n)) return 64;
    return cs.db ? 32 : 16;
  }

  /** Units of work, exits included. */
  get #work(): number {
    return Number(this.#core.work) + this.#vmm.kvm.host.ledger.counts.exits;
  }

  get cpl(): number {
    return this.inGuest ? this.#core.cpl : getSregs(this.#vcpu).ss.dpl;
  }

  /** Breakpoints of the processor itself: the guest and KVM see nothing of them. */
  breakAt(addresses: ReadonlySet<number>): void {
    for (const { trap } of this.#breakpoints) this.#traps.delete(trap);
    this.#breakpoints = [...addresses].map((address) => {
      const at = BigInt(address);
      const trap = { list: TrapList.LinearCode, first: at, last: at, kinds: TrapKind.Break };
      this.#traps.add(trap);
      return { trap, address };
    });
    this.#from = { rip: this.rip, count: this.count };
  }

  #stands(): boolean {
    if (this.#breakpoints.length === 0 || !this.inGuest) return false;
    const { rip } = this;
    const { rip: from, count } = this.#from!;
    return !(rip === from && this.count === count) && this.#breakpoints.some(({ address }) => address === rip);
  }

  advance(instructions: number, work: number): void {
    this.#traps.apply();
    this.atBreakpoint = false;
    const target = this.count + instructions;
    this.#pauseAt = this.#start + BigInt(target);
    const end = this.#work + work;
    while (this.ending === undefined && this.#work < end && this.count < target) {
      const slice = BigInt(Math.min(target - this.count, end - this.#work));
      // the first value sent to a generator is lost
      this.#steps ??= this.#vmm.runSteps(slice);
      const step = this.#steps.next(slice);
      if (step.done) this.ending = endingOf(step.value);
      else if (this.#stands()) {
        this.atBreakpoint = true;
        return;
      }
    }
  }

  registers(): RegisterValues {
    if (this.inGuest) return new Registers(this.#core).read();
    const vcpu = this.#vcpu;
    const { es, cs, ss, ds, fs, gs, ldt, tr, gdt, idt, cr0, cr2, cr3, cr4, cr8, efer } = getSregs(vcpu);
    const [dr0 = 0n, dr1 = 0n, dr2 = 0n, dr3 = 0n, dr6 = 0n, dr7 = 0n] = getDebugRegs(vcpu);
    return {
      ...getRegs(vcpu),
      ...{ es: toRegister(es), cs: toRegister(cs), ss: toRegister(ss), ds: toRegister(ds) },
      ...{ fs: toRegister(fs), gs: toRegister(gs), ldtr: toRegister(ldt), tr: toRegister(tr) },
      ...{ gdtr: gdt, idtr: idt, cr0, cr2, cr3, cr4, cr8, efer, dr0, dr1, dr2, dr3, dr6, dr7 },
    };
  }

  read(address: number): number | undefined {
    if (this.inGuest) {
      // a page that the guest has not touched is not in the EPT yet
      const physical = this.#core.translate(BigInt(address), 0);
      if (physical !== undefined) return this.#core.readPhysical(physical, 1)[0];
    }
    const walk = kvmGvaToGpa(this.#vcpu, BigInt(address));
    return "gpa" in walk ? this.#vcpu.vm.slots.read(walk.gpa, 1)?.[0] : undefined;
  }

  input(bytes: Uint8Array): void {
    this.#vmm.serial.receive(bytes);
  }
}

function endingOf(ending: GuestEnding): Ending {
  switch (ending.kind) {
    case "exit":
      return exitText(ending.status);
    case "halt":
      return HALTED;
    case "shutdown":
      return SHUTDOWN;
    case "failed":
      return { text: ending.message, failed: true };
    default:
      return { text: ending.kind, failed: true };
  }
}
