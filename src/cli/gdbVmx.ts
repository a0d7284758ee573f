import { DebugConsole, DebugExit, PortBus, Serial } from "../devices/index.ts";
import { type KvmGuest, KvmTarget } from "../gdb/index.ts";
import { Kvm } from "../kvm/index.ts";
import { carryOut, enterAt } from "../lab/index.ts";
import { type GuestImage, imageMemory, startState } from "../machine/index.ts";

export interface VmxGuestOptions {
  readonly image: GuestImage;
  readonly memory: number;
  readonly policy: string | undefined;
  readonly vcpus: number;
  readonly console: (byte: number) => void;
  /** Keep what is needed to go back. */
  readonly record: boolean;
}

/** Bytes of stack between two vCPUs that start at the same place. */
const STACK = 0x1000n;

/** A KVM guest with RAM at 0 and the debug ports. Every vCPU starts at the entry, with its number in EBX. */
function kvmGuest({ image, memory, policy, vcpus, console }: VmxGuestOptions): KvmGuest {
  const kvm = new Kvm({ ...(policy === undefined ? {} : { policy }), hostOptions: { memory } });
  const vm = kvm.createVm();
  const userspaceAddr = vm.allocMemory(BigInt(memory));
  vm.setUserMemoryRegion({ slot: 0, guestPhysAddr: 0n, memorySize: BigInt(memory), userspaceAddr });
  for (const { address, data } of imageMemory(image, memory)) vm.writeMemory(userspaceAddr + BigInt(address), data);
  let status: number | undefined;
  let quiet = false;
  const put = (byte: number): void => {
    if (!quiet) console(byte);
  };
  const bus = new PortBus()
    .add(new DebugConsole(put))
    .add(new Serial(put))
    .add(
      new DebugExit((value) => {
        status = value;
      }),
    );
  const start = startState(image, memory);
  return {
    vcpus: Array.from({ length: vcpus }, (_, i) => {
      const vcpu = vm.createVcpu(i);
      vcpu.setCpuid2(kvm.getSupportedCpuid());
      enterAt(vcpu, start);
      const regs = vcpu.getRegs();
      vcpu.setRegs({ ...regs, rbx: BigInt(i), rsp: regs.rsp - BigInt(i) * STACK });
      return vcpu;
    }),
    onExit: (vcpu, exit, again) => {
      if (exit.reason !== "io") return undefined;
      quiet = again;
      carryOut(bus, exit);
      if (status === undefined) return undefined;
      // later kernels complete an OUT at the next KVM_RUN only
      if (!kvm.rules.pioSkipsFirst) vcpu.run({ immediateExit: true });
      return { message: `the guest ended itself with status ${status}`, status };
    },
  };
}

export function vmxTarget(options: VmxGuestOptions): KvmTarget {
  const again = (): KvmGuest => kvmGuest(options);
  return new KvmTarget({ ...again(), ...(options.record ? { again } : {}) });
}
