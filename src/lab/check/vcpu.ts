import type { HostCpu, HostTask } from "../../kvm/index.ts";
import { type Policy, type PolicyOptions, PolicySwitch } from "../../policy/index.ts";
import type { StageVcpu } from "./stage.ts";

/** The CPU that the vCPU's thread is on. */
interface Face {
  readonly cpu: () => HostCpu;
  /** What 0x140 holds. */
  readonly physical: () => bigint;
  /** The MSR-load lists write it. */
  readonly load: (value: bigint) => void;
  /** The policy is about to write after the put. */
  readonly stale: (value: bigint) => void;
}

/** A vCPU as a policy sees it: KVM's own order of calls, without a VMCS and a processor. */
export class ModelVcpu implements StageVcpu {
  /** arch.msr_misc_features_enables */
  guest = 0n;
  /** In KVM_RUN. */
  running = false;
  /** In the policy's hook for a guest WRMSR. */
  #setting = false;
  #list: { guest: bigint; host: bigint } | undefined;
  readonly #switching: PolicySwitch;
  readonly #notifier = {
    schedOut: () => void this.#switching.put(),
    schedIn: () => this.#switching.load(this.guest),
  };

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
    const attached = policy.attach(
      {
        rdmsrl: (index) => face.cpu().rdmsrl(index, "policy"),
        wrmsrl: (index, value) => {
          if (vcpu.#setting && !vcpu.#switching.policyLoaded) face.stale(value);
          face.cpu().wrmsrl(index, value, "policy");
        },
        get shadow() {
          return face.cpu().msrMiscFeaturesShadow;
        },
        get loaded() {
          return (vcpu.#switching as PolicySwitch | undefined)?.policyLoaded ?? false;
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
    this.#switching = new PolicySwitch(attached, chosen.switchPoint ?? "prepare");
  }

  /** vcpu_load where it is not loaded, one entry, one exit; `observe` sees what 0x140 holds in the guest. */
  enter(observe: (inGuest: bigint) => void): void {
    if (!this.running) this.#load();
    this.running = true;
    this.#switching.prepareSwitchToGuest(this.guest);
    this.#switching.policy.beforeEntry?.(this.guest);
    observe(this.#list?.guest ?? this.face.physical());
    if (this.#list !== undefined) this.face.load(this.#list.host);
    this.#switching.policy.afterExit?.();
  }

  /** The guest writes an accepted value, which exits. */
  wrmsr(value: bigint, observe: (inGuest: bigint) => void, between: () => void): void {
    this.enter(observe);
    this.#setMsr(value, between);
  }

  #setMsr(value: bigint, between: () => void): void {
    this.#switching.setMsr(value, () => {
      between();
      this.#setting = true;
    });
    this.#setting = false;
    this.guest = value;
  }

  /** The end of KVM_RUN. */
  put(): void {
    this.#switching.put();
    this.task.unregisterPreemptNotifier(this.#notifier);
    this.running = false;
  }

  /** vcpu_load and vcpu_put without an entry. */
  ioctl(value: bigint | undefined): void {
    this.#load();
    if (value !== undefined) this.#setMsr(value, () => {});
    this.put();
  }

  switchVmcs(): void {
    this.#switching.put();
    this.#switching.load(this.guest);
  }

  #load(): void {
    this.task.registerPreemptNotifier(this.#notifier);
    this.#switching.load(this.guest);
  }
}
