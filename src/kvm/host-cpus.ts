import type { Host } from "./host.ts";
import { HostCpu } from "./host-cpu.ts";

/** MSRs of a processor that KVM's paths switch: 0x140, STAR, LSTAR, CSTAR, SYSCALL_MASK. */
const PER_CPU_MSRS = [0x140, 0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084];

const parked = new WeakMap<HostCpu, readonly bigint[]>();

/**
 * Another CPU of this host, booted as the first was. One core plays all of them, one at a time: see selectHostCpu.
 */
export function addHostCpu(host: Host, name: string): HostCpu {
  const { cpu } = host;
  const added = new HostCpu(cpu.hardware, host.ledger, name);
  const before = read(host);
  write(host, [0n, 0n, 0n, 0n, 0n]);
  added.boot({ ring3mwait: host.ring3mwait });
  parked.set(added, read(host));
  write(host, before);
  host.cpus.push(added);
  return added;
}

/**
 * Lets the core play `cpu` from now on, between two instructions of the CPU it leaves, which is out of the guest. What
 * runs there stays as it is: a vCPU that is loaded stays loaded. No access is counted, as nothing is executed.
 */
export function selectHostCpu(host: Host, cpu: HostCpu): void {
  if (host.cpu === cpu) return;
  parked.set(host.cpu, read(host));
  write(host, parked.get(cpu) ?? []);
  host.cpu = cpu;
  cpu.loaded?.();
}

function read({ core }: Host): bigint[] {
  return PER_CPU_MSRS.map((index) => core.rdmsr(index) ?? 0n);
}

function write({ core }: Host, values: readonly bigint[]): void {
  values.forEach((value, i) => {
    core.wrmsr(PER_CPU_MSRS[i]!, value);
  });
}
