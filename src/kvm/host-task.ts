/** Called by the scheduler of a host CPU for the thread that registered it. @kvm preempt_ops */
export interface PreemptNotifier {
  /** The thread is about to leave the CPU; 0x140 still holds its own value. */
  schedOut(): void;
  /** The thread is on the CPU again and __switch_to_xtra has run. */
  schedIn(): void;
}

/** A thread of the host, with the one thread flag that matters here. */
export class HostTask {
  /** CPUID at CPL 3 faults in this thread. */
  tifNocpuid = false;
  /** preempt_notifiers, in the order they fire. */
  readonly preemptNotifiers: PreemptNotifier[] = [];

  constructor(readonly name: string) {}

  /** Thread flags are copied; notifiers are not. */
  fork(name: string): HostTask {
    const child = new HostTask(name);
    child.tifNocpuid = this.tifNocpuid;
    return child;
  }

  registerPreemptNotifier(notifier: PreemptNotifier): void {
    this.preemptNotifiers.unshift(notifier);
  }

  unregisterPreemptNotifier(notifier: PreemptNotifier): void {
    const at = this.preemptNotifiers.indexOf(notifier);
    if (at >= 0) this.preemptNotifiers.splice(at, 1);
  }
}
