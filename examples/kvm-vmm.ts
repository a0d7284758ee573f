// A virtual machine monitor in the order of the kvm-ioctls documentation's example: memory with dirty logging, one
// vCPU in real mode, and a loop over its exits. The guest prints 3 + 3 to a port, writes memory, touches a device that
// is not there, and halts.
import { KVM_MEM_LOG_DIRTY_PAGES, Kvm } from "wasm-vmx/kvm";

const MEMORY = 0x4000n;
const GUEST_ADDRESS = 0x1000n;

// prettier-ignore
const CODE = Uint8Array.of(
  0xba,
  0xf8,
  0x03, // mov dx, 0x3f8
  0x00,
  0xd8, // add al, bl
  0x04,
  0x30, // add al, '0'
  0xee, // out dx, al
  0xec, // in al, dx
  0xc6,
  0x06,
  0x00,
  0x20,
  0x00, // mov byte [0x2000], 0: a page becomes dirty
  0xc6,
  0x06,
  0x00,
  0x80,
  0x00, // mov byte [0x8000], 0: no memory there
  0x8a,
  0x16,
  0x00,
  0x80, // mov dl, [0x8000]
  0xf4, // hlt
);

/** Runs the guest; returns one line an exit. */
export function main(): string[] {
  const kvm = new Kvm();
  const vm = kvm.createVm();

  const userspaceAddr = vm.allocMemory(MEMORY);
  const slot = 0;
  vm.setUserMemoryRegion({
    slot,
    guestPhysAddr: GUEST_ADDRESS,
    memorySize: MEMORY,
    userspaceAddr,
    flags: KVM_MEM_LOG_DIRTY_PAGES,
  });
  vm.writeMemory(userspaceAddr, CODE);

  const vcpu = vm.createVcpu(0);
  const sregs = vcpu.getSregs();
  sregs.cs = { ...sregs.cs, base: 0n, selector: 0 };
  vcpu.setSregs(sregs);
  vcpu.setRegs({ ...vcpu.getRegs(), rip: GUEST_ADDRESS, rax: 3n, rbx: 3n, rflags: 2n });

  const lines: string[] = [];
  for (;;) {
    const exit = vcpu.run();
    switch (exit.reason) {
      case "io":
        if (exit.direction === "in") exit.data[0] = 0x20;
        lines.push(`I/O ${exit.direction} 0x${exit.port.toString(16)}: ${exit.data}`);
        break;
      case "mmio":
        if (!exit.isWrite) exit.data[0] = 0x42;
        lines.push(`MMIO ${exit.isWrite ? "write" : "read"} 0x${exit.physAddr.toString(16)}: ${exit.data}`);
        break;
      case "hlt": {
        const dirty = vm.getDirtyLog(slot)[0]!.toString(2);
        lines.push(`halted; dirty pages ${dirty}, dl = 0x${(vcpu.getRegs().rdx & 0xffn).toString(16)}`);
        return lines;
      }
      default:
        throw new Error(`unexpected exit: ${exit.reason}`);
    }
  }
}
