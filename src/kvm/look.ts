// A vCPU in the middle of KVM_RUN as somebody sees it who looks on: nothing of it changes, and nothing is counted.
import type { CodeMode } from "../core/index.ts";
import { Registers, type RegisterValues, VmxState } from "../machine/index.ts";
import { kvmGvaToGpa } from "./mmu.ts";
import type { VcpuVmx } from "./vcpu.ts";
import { Field } from "./vmcs-fields.ts";

const CODE_MAX = 15;
const CS_L = 0x2000n;
const CS_D = 0x4000n;

function field(vcpu: VcpuVmx, encoding: number): bigint {
  return new VmxState(vcpu.host.core).readField(encoding) ?? 0n;
}

function inGuest(vcpu: VcpuVmx): boolean {
  return new VmxState(vcpu.host.core).operation === "nonRoot";
}

/** What the processor holds: the guest's registers in the guest; out of it the host's, with RSP, RIP and RFLAGS of the guest. */
export function processorRegisters(vcpu: VcpuVmx): RegisterValues {
  const values = new Registers(vcpu.host.core).read();
  if (inGuest(vcpu)) return values;
  return {
    ...values,
    rsp: field(vcpu, Field.GUEST_RSP),
    rip: field(vcpu, Field.GUEST_RIP),
    rflags: field(vcpu, Field.GUEST_RFLAGS),
  };
}

/** Every VMCS field that KVM uses, by its name. */
export function vmcsValues(vcpu: VcpuVmx): [name: string, value: bigint][] {
  return Object.entries(Field).map(([name, encoding]) => [name, field(vcpu, encoding)]);
}

/** Bytes of one page, as far as they can be read. */
function pageBytes(vcpu: VcpuVmx, linear: bigint, size: number): Uint8Array | undefined {
  const { core } = vcpu.host;
  if (inGuest(vcpu)) {
    const physical = core.translate(linear, 2);
    if (physical === undefined || core.physToHost(physical) === 0) return undefined;
    return core.readPhysical(physical, size);
  }
  const walk = kvmGvaToGpa(vcpu, linear);
  return "gpa" in walk ? vcpu.vm.slots.read(walk.gpa, size) : undefined;
}

/** The instruction that the guest goes on with: at most 15 bytes, fewer where a page is absent. */
export function nextInstruction(vcpu: VcpuVmx): { rip: bigint; mode: CodeMode; bytes: Uint8Array } {
  const { core } = vcpu.host;
  const inside = inGuest(vcpu);
  const rights = field(vcpu, Field.GUEST_CS_AR_BYTES);
  const wide = (rights & CS_L) !== 0n && (vcpu.arch.efer & 0x400n) !== 0n;
  const mode = inside ? core.codeMode : wide ? 64 : rights & CS_D ? 32 : 16;
  const { rip } = processorRegisters(vcpu);
  const base = mode === 64 ? 0n : field(vcpu, Field.GUEST_CS_BASE);
  const mask = mode === 64 ? 0xffff_ffff_ffff_ffffn : 0xffff_ffffn;
  const linear = (inside ? core.codeAddress : base + rip) & mask;
  const first = Math.min(CODE_MAX, 0x1000 - Number(linear & 0xfffn));
  const bytes = [...(pageBytes(vcpu, linear, first) ?? [])];
  if (bytes.length === first && first < CODE_MAX) {
    bytes.push(...(pageBytes(vcpu, (linear + BigInt(first)) & mask, CODE_MAX - first) ?? []));
  }
  return { rip, mode, bytes: Uint8Array.from(bytes) };
}
