import { DebugConsole, DebugExit, PortBus, Serial } from "../devices/index.ts";
import { KvmTarget } from "../gdb/index.ts";
import { Kvm } from "../kvm/index.ts";
import { carryOut, enterAt } from "../lab/index.ts";
import { type GuestImage, imageMemory, startState } from "../machine/index.ts";

export interface VmxGuestOptions {
  readonly image: GuestImage;
  readonly memory: number;
  readonly policy: string | undefined;
  readonly vcpus: number;
  readonly console: (byte: number) => void;
}

/** Bytes of stack between two vCPUs that start at the same place. */
const STACK = 0x1000n;

/** A KVM guest with RAM at 0 and the debug ports. Every vCPU starts at the entry, with its number in EBX. */
export function vmxTarget({ image, memory, policy, vcpus, console }: VmxGuestOptions): KvmTarget {
  const kvm = new Kvm({ ...(policy === undefined ? {} : { policy }), hostOptions: { memory } });
  const vm = kvm.createVm();
  const userspaceAddr = vm.allocMemory(BigInt(memory));
  vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memorySize: BigInt(memory), userspaceAddr });
  for (const { address, data } of imageMemory(image, memory)) vm.writeMemory(userspaceAddr + BigInt(address), data);
  let status: number | undefined;
  const bus = new PortBus()
    .add(new DebugConsole(console))
    .add(new Serial(console))
    .add(
      new DebugExit((value) => {
        status = value;
      }),
    );
  const start = startState(image, memory);
  return new KvmTarget({
    vcpus: Array.from({ length: vcpus }, (_, i) => {
      const vcpu = vm.createVcpu(i);
      vcpu.setCpuid2(kvm.getSupportedCpuid());
      enterAt(vcpu, start);
      const regs = vcpu.getRegs();
      vcpu.setRegs({ ...regs, rbx: BigInt(i), rsp: regs.rsp - BigInt(i) * STACK });
      return vcpu;
    }),
    onExit: (vcpu, exit) => {
      if (exit.reason !== "io") return undefined;
      carryOut(bus, exit);
      if (status === undefined) return undefined;
      // later kernels complete an OUT at the next KVM_RUN only
      if (!kvm.rules.pioSkipsFirst) vcpu.run({ immediateExit: true });
      return { message: `the guest ended itself with status ${status}`, status };
    },
  });
}
