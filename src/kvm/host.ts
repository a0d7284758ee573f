import { TSC_BASE } from "../../assembly/abi/state.ts";
import { Core, hostInit, type JitOptions } from "../core/index.ts";
import { Ledger } from "../cost/index.ts";
import { applyModel, type CpuModel, genericModel } from "../machine/models.ts";
import type { TraceSink } from "../trace/index.ts";
import type { HostCpu } from "./host-cpu.ts";
import { HostPages } from "./host-pages.ts";
import type { HostTask } from "./host-task.ts";
import { bootHost } from "./host-value.ts";
import type { ResidentVcpu } from "./resident.ts";
import type { SchedulePoint } from "./schedule.ts";
import { setupVmcsConfig, type VmcsConfig } from "./vmcs-config.ts";
import { VmxInstructionError, VmxOps } from "./vmx-ops.ts";

const PAGE = 4096;
/** The host's TSC runs at 1 GHz. */
const TICKS_A_NANOSECOND = 1n;
/** Frames kept for VMCSs, bitmaps and EPT tables. */
const HOST_FRAMES = 1024;

export interface HostOptions {
  /** Bytes of guest memory the processor must have room for. Default 64 MiB. */
  readonly memory?: number;
  readonly model?: CpuModel;
  /** The processor has CPUID faulting (0xCE bit 31). Default true. */
  readonly cpuidFault?: boolean;
  /** 0x140 of the VMM thread, 0 to 3. Bits above 0 need `miscFeaturesMask` of the model, which follows by default. */
  readonly hostValue?: number;
  /** How the processor generates code; false: never. */
  readonly jit?: false | JitOptions;
}

/** A physical machine with Linux and KVM on it: one core, one CPU, and the VMM's thread. */
export class Host {
  readonly core: Core;
  readonly vmx: VmxOps;
  readonly pages: HostPages;
  readonly ledger: Ledger = new Ledger();
  /** The CPU that the core plays now. */
  cpu: HostCpu;
  /** All CPUs, the first one first; addHostCpu makes more. */
  readonly cpus: HostCpu[];
  /** Linux turned ring-3 MWAIT on at boot. */
  readonly ring3mwait: boolean;
  /** The thread that makes the KVM calls. */
  readonly vmm: HostTask;
  readonly vmcsConfig: VmcsConfig;
  /** per_cpu(current_vmcs). */
  currentVmcs: bigint | undefined;
  /** The vCPU whose general registers are in the core. */
  resident: ResidentVcpu | undefined;
  /** Called at every named point; it may switch the CPU to another thread and back. */
  onSchedulePoint: ((point: SchedulePoint, vcpu: ResidentVcpu) => void) | undefined;
  trace: TraceSink | undefined;
  private nextVpid = 1;

  constructor(options: HostOptions = {}) {
    const hostValue = options.hostValue ?? 0;
    const memory = options.memory ?? 64 << 20;
    if (!Number.isSafeInteger(memory) || memory < 0) {
      throw new RangeError(`memory is ${String(memory)}, not a number of bytes`);
    }
    this.core = new Core(Math.ceil(memory / PAGE) + HOST_FRAMES);
    const { jit } = options;
    if (jit !== undefined) this.core.linker.configure(jit === false ? { threshold: 0 } : jit);
    this.core.exports.reset(0);
    const base = options.model ?? genericModel({ vmx: true });
    applyModel(this.core, {
      ...base,
      platformInfo: options.cpuidFault === false ? 0n : base.platformInfo,
      miscFeaturesMask: hostValue > 1 ? base.miscFeaturesMask | 3n : base.miscFeaturesMask,
    });
    this.vmx = new VmxOps(this.core);
    this.pages = new HostPages(this.core);
    const result = hostInit(this.core.exports, this.vmcsRegion());
    if (result !== 0) throw new VmxInstructionError("vmxon", result, 0);
    const { core } = this;
    const hardware = {
      rdmsr: (index: number) => core.rdmsr(index) ?? null,
      wrmsr: (index: number, value: bigint) => core.wrmsr(index, value),
    };
    ({ cpu: this.cpu, vmm: this.vmm } = bootHost(hardware, this.ledger, hostValue));
    this.cpus = [this.cpu];
    this.ring3mwait = (hostValue & 2) !== 0;
    this.vmcsConfig = setupVmcsConfig((index) => core.rdmsr(index));
  }

  /** A zeroed VMCS or VMXON region with the processor's revision. @kvm alloc_vmcs_cpu */
  vmcsRegion(): bigint {
    const page = this.pages.alloc();
    const revision = Number((this.core.rdmsr(0x480) ?? 0n) & 0x7fff_ffffn);
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, revision, true);
    this.core.writePhysical(page, bytes);
    return page;
  }

  /** @kvm allocate_vpid */
  allocateVpid(): number {
    return this.nextVpid++;
  }

  schedulePoint(point: SchedulePoint, vcpu: ResidentVcpu): void {
    this.onSchedulePoint?.(point, vcpu);
  }

  /** Time that the VMM spends elsewhere: the TSC goes on, and with it all timers in the kernel. */
  passTime(nanoseconds: bigint): void {
    const { core } = this;
    core.write64(TSC_BASE, core.read64(TSC_BASE) + nanoseconds * TICKS_A_NANOSECOND);
  }

  /** Takes the CPU from the VMM's thread and gives it back. */
  preempt(other: HostTask): void {
    const current = this.cpu.current;
    this.cpu.switchTo(other);
    this.cpu.returnToUser();
    this.cpu.switchTo(current);
  }
}
