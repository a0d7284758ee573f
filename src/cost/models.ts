import { interval, ZERO } from "./interval.ts";
import { autoloadAs, type Cost, type CostModel, CostModelError } from "./model.ts";

const THREAD = "Sean Christopherson, kvm list, 19 Mar 2019";

const instruction: Cost = { cycles: interval(1), source: "convention: one cycle an instruction" };
const fault: Cost = { cycles: ZERO, source: "no measurement; the same under every policy" };
/** Entry 576 and exit 576-656 of a KVM_RUN of 2528-2576 cycles. */
const userspace: Cost = { cycles: interval(1152, 1232), source: "KVM_RUN ioctl on AMD, Dec 2020, lkml 2012.2/00527" };
const blogRdmsr: Cost = { cycles: interval(30, 50), source: "newsletter.onedfrk.com, 2026 (weak)" };
const blogWrmsr: Cost = { cycles: interval(100, 300), source: "newsletter.onedfrk.com, 2026 (weak)" };
const threadExit: Cost = { cycles: interval(1000), source: `${THREAD}: "~1000 cycles added by the VM-Exit"` };
const noRdmsr: Cost = { cycles: ZERO, source: "the thread gives no figure for RDMSR" };

const shared = { instruction, fault, userspace };

function measured(name: string, summary: string, exit: Cost): CostModel {
  return { name, summary, ...shared, exit, wrmsr: blogWrmsr, rdmsr: blogRdmsr, autoload: autoloadAs(blogWrmsr) };
}

function generation(name: string, cycles: number): CostModel {
  const source = "VM exit and entry by CPU generation, 2012";
  return measured(name, `${name}: exit and entry ${cycles}`, { cycles: interval(cycles), source });
}

function thread(name: string, summary: string, wrmsr: Cost): CostModel {
  return { name, summary, ...shared, exit: threadExit, wrmsr, rdmsr: noRdmsr, autoload: autoloadAs(wrmsr) };
}

/** The built-in models; the first is the default. */
export const COST_MODELS: readonly CostModel[] = [
  thread("thread-trip", "the thread's numbers, 250-300 cycles for the pair of WRMSRs of a load/put trip", {
    cycles: interval(125, 150),
    source: `${THREAD}: "extra 250-300 cycles added to each round trip", halved because a trip writes twice`,
  }),
  thread("thread-write", "the thread's numbers, read as 250-300 cycles for each WRMSR", {
    cycles: interval(250, 300),
    source: `${THREAD}: 250-300 cycles, read as the cost of one WRMSR`,
  }),
  measured("kernel-2024", "CPUID exit as measured in Dec 2024, mitigations off", {
    cycles: interval(1018, 1098),
    source: "Sean Christopherson 1018-1053, Bernhard Kauer 1072-1098, kvm list, Dec 2024",
  }),
  measured("mitigations", "CPUID exit with mitigations on", {
    cycles: interval(1600, 2000),
    source: "kvm list: 1600+ (Dec 2024), 2000+ for a round trip that saves more MSRs (Feb 2021)",
  }),
  measured("skylake-sp", "vmcall round trip on Skylake-SP", {
    cycles: interval(1529, 1559),
    source: "Wanpeng Li, kvm list, Mar 2020",
  }),
  generation("prescott", 3963),
  generation("merom", 1579),
  generation("penryn", 1266),
  generation("nehalem", 1009),
  generation("westmere", 761),
  generation("sandy-bridge", 784),
];

/** The model of that name; the error lists the names there are. */
export function costModel(name: string): CostModel {
  const model = COST_MODELS.find((candidate) => candidate.name === name);
  if (model === undefined) {
    const names = COST_MODELS.map((candidate) => candidate.name).join(", ");
    throw new CostModelError(`unknown cost model "${name}"; there are: ${names}`);
  }
  return model;
}
