import type { Ledger } from "../cost/index.ts";
import { ARCH_SET_CPUID, HostCpu, type MsrHardware, RING3MWAIT } from "./host-cpu.ts";
import { HostTask } from "./host-task.ts";

/**
 * A booted host CPU with a VMM thread on it whose value of 0x140 is `hostValue`: bit 0 by arch_prctl(ARCH_SET_CPUID, 0),
 * bit 1 as on a Xeon Phi. Throws RangeError where this hardware cannot hold the value.
 */
export function bootHost(hardware: MsrHardware, ledger: Ledger, hostValue = 0): { cpu: HostCpu; vmm: HostTask } {
  if (!Number.isInteger(hostValue) || hostValue < 0 || hostValue > 3) {
    throw new RangeError(`host value of 0x140 must be 0, 1, 2 or 3, not ${hostValue}`);
  }
  const cpu = new HostCpu(hardware, ledger);
  cpu.boot({ ring3mwait: (BigInt(hostValue) & RING3MWAIT) !== 0n });
  const vmm = new HostTask("vmm");
  cpu.switchTo(vmm);
  if (hostValue & 1 && cpu.archPrctl(ARCH_SET_CPUID, 0) !== 0) {
    throw new RangeError("host value with bit 0 needs a CPU with CPUID faulting");
  }
  return { cpu, vmm };
}
