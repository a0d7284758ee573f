import type { HostCpu, HostTask } from "../../kvm/index.ts";
import type { Policy, PolicyOptions, SwitchPoint, VcpuPolicy } from "../../policy/index.ts";

/** The CPU that the vCPU's thread is on. */
interface Face {
  readonly cpu: () => HostCpu;
  readonly read: () => bigint;
  readonly write: (value: bigint, stale: boolean) => void;
}

/** A vCPU as a policy sees it: src/kvm/switch.ts and setMiscFeatures without a VMCS. */
export class ModelVcpu {
  /** arch.msr_misc_features_enables */
  guest = 0n;
  /** In KVM_RUN. */
  running = false;
  /** loaded_cpu_state */
  #loadedCpuState = false;
  #policyLoaded = false;
  /** In the policy's hook for a guest WRMSR. */
  #setting = false;
  #list: { guest: bigint; host: bigint } | undefined;
  readonly #policy: VcpuPolicy;
  readonly #switchPoint: SwitchPoint;
  readonly #notifier = { schedOut: () => this.#archPut(), schedIn: () => this.#archLoad() };

  constructor(
    readonly task: HostTask,
    /** Number of the host CPU. */
    public on: number,
    policy: Policy,
    options: Partial<PolicyOptions>,
    private readonly face: Face,
  ) {
    const chosen = { ...policy.defaults, ...options };
    const vcpu: ModelVcpu = this;
    this.#switchPoint = chosen.switchPoint ?? "prepare";
    this.#policy = policy.attach(
      {
        rdmsrl: () => face.read(),
        wrmsrl: (_index, value) => face.write(value, vcpu.#setting && !vcpu.#policyLoaded),
        get shadow() {
          return face.cpu().msrMiscFeaturesShadow;
        },
        get loaded() {
          return vcpu.#policyLoaded;
        },
        get snapshot() {
          return face.cpu().snapshot;
        },
        get cpu() {
          return face.cpu();
        },
        addAtomicSwitchMsr: (_index, guest, host) => {
          vcpu.#list = { guest, host };
        },
        clearAtomicSwitchMsr: () => {
          vcpu.#list = undefined;
        },
        onUserReturn: (notifier) => face.cpu().onUserReturn(notifier),
      },
      chosen,
    );
  }

  /** vcpu_load where it is not loaded, one entry, one exit; `observe` sees what 0x140 holds in the guest. */
  enter(observe: (inGuest: bigint) => void): void {
    if (!this.running) this.#load();
    this.running = true;
    if (!this.#loadedCpuState) {
      this.#loadedCpuState = true;
      this.#toGuest();
    }
    this.#policy.beforeEntry?.(this.guest);
    observe(this.#list?.guest ?? this.face.read());
    if (this.#list !== undefined) this.face.write(this.#list.host, false);
    this.#policy.afterExit?.();
  }

  /** vmx_set_msr of an accepted value; `between` the test and the write. */
  setMsr(value: bigint, between: () => void): void {
    if (this.#policyLoaded) {
      between();
      this.#setting = true;
      this.#policy.setMsrLoaded(value);
      this.#setting = false;
    }
    this.guest = value;
  }

  /** The end of KVM_RUN. */
  put(): void {
    this.#archPut();
    this.task.unregisterPreemptNotifier(this.#notifier);
    this.running = false;
  }

  /** vcpu_load and vcpu_put without an entry. */
  ioctl(value: bigint | undefined): void {
    this.#load();
    if (value !== undefined) this.setMsr(value, () => {});
    this.put();
  }

  switchVmcs(): void {
    this.#archPut();
    this.#archLoad();
  }

  #load(): void {
    this.task.registerPreemptNotifier(this.#notifier);
    this.#archLoad();
  }

  #archLoad(): void {
    if (this.#switchPoint === "load") this.#toGuest();
  }

  #archPut(): void {
    this.#loadedCpuState = false;
    if (!this.#policyLoaded) return;
    this.#policyLoaded = false;
    this.#policy.prepareSwitchToHost();
  }

  #toGuest(): void {
    if (this.#policyLoaded) return;
    this.#policyLoaded = true;
    this.#policy.prepareSwitchToGuest(this.guest);
  }
}
