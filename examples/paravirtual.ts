// A paravirtual hypervisor interface on the bare processor: CPUID leaves at 0x40000000, an MSR that names the hypercall page, and
// VMCALL. The guest finds it, has the page filled in, and calls through it.
import { Machine } from "wasm-vmx";

const SIGNATURE = "WasmVmxDemo!";
const LEAF = 0x4000_0000;
const MSR_GUEST_ID = 0x4000_0000;
const MSR_HYPERCALL_PAGE = 0x4000_0001;
const PAGE_ENABLED = 1n;
const VMCALL_RET = Uint8Array.of(0x0f, 0x01, 0xc1, 0xc3);

const word = (at: number) => [0, 1, 2, 3].reduce((sum, i) => sum + SIGNATURE.charCodeAt(at + i) * 2 ** (8 * i), 0);

/** Hypercalls by their number: arguments in RBX and RCX, the result goes to RAX; undefined: there is no such call. */
export type Hypercalls = Readonly<Record<number, (rbx: bigint, rcx: bigint) => bigint>>;

/** Puts the interface into a machine. */
export function paravirtualize(machine: Machine, calls: Hypercalls): void {
  let guestId = 0n;
  let page = 0n;

  machine.onCpuid(1, () => ({ ecx: (machine.cpuid(1).ecx | 0x8000_0000) >>> 0 })); // a hypervisor is present
  machine.onCpuid([LEAF, LEAF + 0xff], (leaf) => {
    if (leaf === LEAF) return { eax: LEAF + 1, ebx: word(0), ecx: word(4), edx: word(8) };
    if (leaf === LEAF + 1) return { eax: 1, ebx: 0, ecx: 0, edx: 0 }; // hypercalls
    return { eax: 0, ebx: 0, ecx: 0, edx: 0 };
  });

  machine.onRdmsr([MSR_GUEST_ID, MSR_HYPERCALL_PAGE], (index) => (index === MSR_GUEST_ID ? guestId : page));
  machine.onWrmsr(MSR_GUEST_ID, (_index, value) => {
    guestId = value;
    return true;
  });
  machine.onWrmsr(MSR_HYPERCALL_PAGE, (_index, value) => {
    const enabled = (value & PAGE_ENABLED) !== 0n;
    if (enabled && guestId === 0n) return "#GP"; // say who you are first
    page = value;
    if (enabled) machine.writeMemory(value & ~0xfffn, VMCALL_RET);
    return true;
  });

  machine.onVmcall(() => {
    const { registers } = machine;
    if ((page & PAGE_ENABLED) === 0n) return false; // #UD, as without us
    const call = calls[Number(registers.rax & 0xffff_ffffn)];
    registers.rax = call ? call(registers.rbx, registers.rcx) : 0xffff_ffffn;
    return true;
  });
}

// mov eax, 40000000h; cpuid; mov esi, ebx
// mov ecx, 40000000h; mov eax, 1234h; xor edx, edx; wrmsr
// mov ecx, 40000001h; mov eax, 200001h; wrmsr
// mov eax, 7; mov ebx, 20; mov ecx, 22; mov edi, 200000h; call edi; hlt
const GUEST = Uint8Array.of(
  ...[0xb8, 0, 0, 0, 0x40, 0x0f, 0xa2, 0x89, 0xde],
  ...[0xb9, 0, 0, 0, 0x40, 0xb8, 0x34, 0x12, 0, 0, 0x31, 0xd2, 0x0f, 0x30],
  ...[0xb9, 1, 0, 0, 0x40, 0xb8, 1, 0, 0x20, 0, 0x0f, 0x30],
  ...[0xb8, 7, 0, 0, 0, 0xbb, 20, 0, 0, 0, 0xb9, 22, 0, 0, 0, 0xbf, 0, 0, 0x20, 0, 0xff, 0xd7, 0xf4],
);

/** Runs a guest that uses it; returns what it found and what its hypercall gave. */
export function main(): { signature: string; sum: bigint } {
  const machine = new Machine({ memory: 4 << 20 });
  paravirtualize(machine, { 7: (a, b) => a + b });
  machine.writeMemory(0x100000, GUEST);
  const flat = { base: 0n, limit: 0xffff_ffff };
  const data = { ...flat, attributes: 0xc093 };
  machine.registers.write({
    ...{ cr0: 0x11, rip: 0x100000, rsp: 0x300000, cs: { ...flat, attributes: 0xc09b } },
    ...{ ds: data, es: data, ss: data },
  });
  const exit = machine.run();
  if (exit.reason !== "halt") throw new Error(`the guest ended with ${exit.reason}`);
  const { rsi, rax } = machine.registers;
  const signature = [0, 8, 16, 24].map((shift) => String.fromCharCode(Number((rsi >> BigInt(shift)) & 0xffn))).join("");
  return { signature, sum: rax };
}
