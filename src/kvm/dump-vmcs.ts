import type { VcpuVmx } from "./vcpu.ts";
import { Field } from "./vmcs-fields.ts";

const hex = (value: bigint, digits: number): string => `0x${value.toString(16).padStart(digits, "0")}`;

/** Digits of a field by the width bits of its encoding: 16, 64, 32, natural. @sdm 3C "Encoding of VMCS Fields" */
function digits(encoding: number): number {
  return [4, 16, 8, 16][(encoding >> 13) & 3]!;
}

const SECTIONS: readonly (readonly [title: string, has: (name: string) => boolean])[] = [
  ["Guest State", (name) => name.startsWith("GUEST_") && !name.endsWith("_ADDRESS")],
  ["Host State", (name) => name.startsWith("HOST_")],
  ["Control State", () => true],
];

/** Every VMCS field that KVM uses, in the kernel's sections. @kvm dump_vmcs */
export function dumpVmcs(vcpu: VcpuVmx): string {
  const left = new Map<string, number>(Object.entries(Field));
  const lines: string[] = [];
  for (const [title, has] of SECTIONS) {
    lines.push(`*** ${title} ***`);
    for (const [name, encoding] of left) {
      if (!has(name)) continue;
      lines.push(`${name} = ${hex(vcpu.vmread(encoding), digits(encoding))}`);
      left.delete(name);
    }
  }
  return lines.join("\n");
}
