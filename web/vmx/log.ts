import { type CostModel, costModel, cyclesOf } from "../../src/cost/index.ts";
import { exitReasonName } from "../../src/kvm/index.ts";
import type { VcpuVmx } from "../../src/kvm/vcpu.ts";
import { Field } from "../../src/kvm/vmcs-fields.ts";
import { formatTraceEvent, type TraceEvent } from "../../src/trace/index.ts";
import type { ChangedField, ExitDetail, ExitSummary, VmxView } from "../session/protocol.ts";
import { exitText } from "./exit-text.ts";

/** Exits kept with their details: the first ones, and the last ones. */
const KEEP_FIRST = 200;
const KEEP_LAST = 400;
const FIELDS = Object.entries(Field);

interface Entry {
  readonly count: number;
  readonly physical: number;
  readonly virtual: number;
}

/** Digits of a field by the width bits of its encoding. @sdm 3C "Encoding of VMCS Fields" */
const hexOf = (value: bigint, encoding: number): string =>
  value.toString(16).padStart([4, 16, 8, 16][(encoding >> 13) & 3]!, "0");

type Record = { -readonly [K in keyof ExitDetail]: ExitDetail[K] } & { handling: string[] };

/** Listens to KVM's trace events and keeps what a person wants to see of each exit. */
export class VmxLog {
  readonly #vcpu: VcpuVmx;
  readonly #start: bigint;
  #first: Record[] = [];
  #last: Record[] = [];
  #total = 0;
  #entry: Entry = { count: 0, physical: 0, virtual: 0 };
  #fields: bigint[] | undefined;
  #current: Record | undefined;
  #roundTrips = 0;

  constructor(vcpu: VcpuVmx) {
    this.#vcpu = vcpu;
    this.#start = vcpu.host.core.count;
  }

  readonly sink = (event: TraceEvent): void => {
    switch (event.name) {
      case "kvm_entry":
        this.#enter();
        break;
      case "kvm_exit":
        this.#exit(event.reason & 0xffff, event.rip, event.qualification, event.intrInfo >>> 0);
        break;
      default:
        this.#note(event);
    }
  };

  #count(): number {
    return Number(this.#vcpu.host.core.count - this.#start);
  }

  #physical(): number {
    const { atomicSwitch, host } = this.#vcpu;
    return Number(atomicSwitch?.guest ?? host.cpu.peekMiscFeatures());
  }

  #virtual(): number {
    return Number(this.#vcpu.arch.msrMiscFeaturesEnables);
  }

  #enter(): void {
    this.#settle();
    this.#current = undefined;
    this.#entry = { count: this.#count(), physical: this.#physical(), virtual: this.#virtual() };
  }

  /** The round trip of the exit before is known only now. */
  #settle(): void {
    const now = this.#vcpu.host.ledger.counts.userspace_round_trips;
    if (this.#current && now !== this.#roundTrips) this.#current.userSpace = true;
    this.#roundTrips = now;
  }

  #changes(): ChangedField[] {
    const before = this.#fields;
    const now = FIELDS.map(([, encoding]) => this.#vcpu.vmread(encoding));
    this.#fields = now;
    if (before === undefined) return [];
    return FIELDS.flatMap(([name, encoding], i) =>
      now[i] === before[i] ? [] : [{ name, before: hexOf(before[i]!, encoding), after: hexOf(now[i]!, encoding) }],
    );
  }

  #exit(reason: number, rip: bigint, qualification: bigint, interruption: number): void {
    const vcpu = this.#vcpu;
    const text = exitText({
      reason,
      qualification,
      interruption,
      guestPhysical: vcpu.vmread(Field.GUEST_PHYSICAL_ADDRESS),
      rax: vcpu.gpr(0),
      rcx: vcpu.gpr(1),
    });
    const record: Record = {
      id: this.#total++,
      reason: exitReasonName(reason & 0xffff),
      text,
      rip,
      from: this.#entry.count,
      to: this.#count(),
      physical: this.#entry.physical,
      virtual: this.#entry.virtual,
      writes: 0,
      reads: 0,
      userSpace: false,
      injected: false,
      qualification,
      interruption,
      handling: [],
      changed: this.#changes(),
    };
    this.#current = record;
    if (this.#first.length < KEEP_FIRST) this.#first.push(record);
    else {
      this.#last.push(record);
      if (this.#last.length > 2 * KEEP_LAST) this.#last = this.#last.slice(-KEEP_LAST);
    }
  }

  #note(event: TraceEvent): void {
    const record = this.#current;
    if (record === undefined) return;
    if (event.name === "host_msr") {
      if (event.write) record.writes += 1;
      else record.reads += 1;
    }
    if (event.name === "kvm_inj_exception") record.injected = true;
    record.handling.push(formatTraceEvent(event, this.#vcpu.vm.rules.version).replace(/\s+/g, " "));
  }

  detail(id: number): ExitDetail | undefined {
    this.#settle();
    return [...this.#first, ...this.#last].find((record) => record.id === id);
  }

  view(cost: string, hostValue: number, inGuest: boolean, policy: { name: string; summary: string }): VmxView {
    this.#settle();
    const { ledger } = this.#vcpu.host;
    const model: CostModel = costModel(cost);
    // the ledger takes up the instructions of a KVM_RUN when it returns
    const counts = { ...ledger.counts, instructions: this.#count() };
    const { byCause, total } = cyclesOf({ counts, rdmsr: ledger.rdmsr, wrmsr: ledger.wrmsr }, model);
    const summary = ({
      handling: _h,
      changed: _c,
      qualification: _q,
      interruption: _i,
      ...rest
    }: Record): ExitSummary => rest;
    const byReason = [...ledger.exitsByReason]
      .sort((a, b) => b[1] - a[1] || a[0] - b[0])
      .map(([reason, count]) => [exitReasonName(reason), count] as const);
    return {
      inGuest,
      physical: this.#physical(),
      virtual: this.#virtual(),
      exits: [...this.#first, ...this.#last.slice(-KEEP_LAST)].map(summary),
      total: this.#total,
      kvm: {
        policy: policy.name,
        policySummary: policy.summary,
        hostValue,
        byReason,
        cycles: { model: model.name, byCause, total },
        counts: {
          exits: counts.exits,
          userSpace: counts.userspace_round_trips,
          wrmsr: ledger.wrmsr.policy,
          rdmsr: ledger.rdmsr.policy,
          faults: counts.hardware_faults + counts.injected_faults,
        },
        leaks: this.#vcpu.leaks.faulting,
      },
    };
  }
}
