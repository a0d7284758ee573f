// What is done with GDB, and what GDB must print: values that follow from the guest's code and the manuals.
import { readFileSync } from "node:fs";
import { type CpuModel, genericModel, type StartMode } from "../../src/machine/index.ts";

/** A command for GDB, and what its output must match. */
export type Command = readonly [command: string, ...expected: (string | RegExp)[]];

export interface Scenario {
  readonly name: string;
  readonly mode: StartMode;
  readonly load: number;
  readonly code: readonly number[];
  readonly cpu?: CpuModel;
  /** MiB, default 4. */
  readonly memory?: number;
  /** Present when the guest is given to KVM, with so many vCPUs. */
  readonly vcpus?: number;
  readonly commands: readonly Command[];
}

/** fixtures/guests/src/hypervisor.asm: its first guest is real-mode code at 8000h, MOV EAX, 1 and CPUID. */
const HYPERVISOR = readFileSync(new URL("../../fixtures/guests/bin/hypervisor.bin", import.meta.url));

const PREPARE: readonly Command[] = [["set pagination off"], ["set confirm off"], ["set width 0"]];

export const SCENARIOS: readonly Scenario[] = [
  {
    name: "real",
    mode: "real",
    load: 0x7c00,
    code: [
      ...[0xb8, 0x34, 0x12], // 7c00 mov ax, 1234h
      ...[0x89, 0xc3], // 7c03 mov bx, ax
      ...[0x89, 0x1e, 0x00, 0x7d], // 7c05 mov [7d00h], bx
      ...[0xff, 0x06, 0x00, 0x7d], // 7c09 inc word [7d00h]
      ...[0x8b, 0x0e, 0x00, 0x7d], // 7c0d mov cx, [7d00h]
      ...[0xb8, 0x00, 0x10], // 7c11 mov ax, 1000h
      ...[0x8e, 0xc0], // 7c14 mov es, ax
      0xf4, // 7c16 hlt
    ],
    commands: [
      ...PREPARE,
      ["target remote $PORT", /0x0*7c00 in/],
      ["show architecture", 'currently "i8086"'],
      ["x/3i $pc", /0x7c00:\tmov +\$0x1234,%ax/, /0x7c03:\tmov +%ax,%bx/, /0x7c05:\tmov +%bx,0x7d00/],
      ["stepi", /0x0*7c03 in/],
      ["p/x $ax", "= 0x1234"],
      ["break *0x7c09", "Breakpoint 1 at 0x7c09"],
      ["continue", /Breakpoint 1, 0x0*7c09 in/],
      ["x/1xh 0x7d00", "0x1234"],
      ["watch *(short*)0x7d00", "Hardware watchpoint 2"],
      ["continue", "Hardware watchpoint 2: *(short*)0x7d00", "Old value = 4660", "New value = 4661"],
      ["p/x $pc", "= 0x7c0d"],
      ["delete 2"],
      ["rwatch *(short*)0x7d00", "Hardware read watchpoint 3"],
      ["continue", "Hardware read watchpoint 3: *(short*)0x7d00", "Value = 4661"],
      ["delete 3"],
      ["set $bx = 0x55aa"],
      ["p/x $ebx", "= 0x55aa"],
      ["set {short}0x7d00 = 0x77"],
      ["x/1dh 0x7d00", "119"],
      ["p $eflags", /= \[ .*\]/],
      ["p $cr0", "= [ ET ]"],
      ["stepi 2"],
      ["p/x $es", "= 0x1000"],
      ["p/x $es_base", "= 0x10000"],
      ["monitor count", /^7$/m],
      ["monitor registers", /linear 0x7c16, 16-bit code/, /es 1000 base 0000000000010000 limit 0000ffff/],
      ["monitor xp 0x7d00 2", "0x7d00: 77 00"],
      ["reverse-stepi", /0x0*7c14 in/],
      ["p/x $es", "= 0x0"],
      ["p/x $ax", "= 0x1000"],
      ["delete"],
      ["watch *(short*)0x7d00", "Hardware watchpoint 4"],
      ["reverse-continue", "Hardware watchpoint 4: *(short*)0x7d00", "Old value = 119", "New value = 4660"],
      ["p/x $pc", "= 0x7c09"],
      ["delete"],
      ["break *0x7c05", "Breakpoint 5 at 0x7c05"],
      ["reverse-continue", "Breakpoint 5, 0x00007c05"],
      ["stepi", /0x0*7c09 in/],
      ["x/1xh 0x7d00", "0x1234"],
      ["delete"],
      ["reverse-continue", "No more reverse-execution history", /0x0*7c00 in/],
      ["p/x $ax", "= 0x0"],
      ["x/1xh 0x7d00", "0x0000"],
      ["reverse-stepi", "No more reverse-execution history"],
      ["stepi 7", /0x0*7c16 in/],
      ["p/x $es", "= 0x1000"],
      ["x/1xh 0x7d00", "0x0077"],
      ["monitor nonsense", /unknown command "nonsense": .*registers/],
      ["x/1xb 0xf0000000", "Cannot access memory at address 0xf0000000"],
      ["continue", "the guest halted and nothing can wake it"],
      ["kill"],
    ],
  },
  {
    name: "protected",
    mode: "protected",
    load: 0x100000,
    code: [
      ...[0xb8, 0x78, 0x56, 0x34, 0x12], // 100000 mov eax, 12345678h
      ...[0xe8, 0x06, 0x00, 0x00, 0x00], // 100005 call 100010h
      ...[0xe6, 0xf4], // 10000a out 0f4h, al
      ...[0xf4, 0x90, 0x90, 0x90], // 10000c hlt
      ...[0x50], // 100010 push eax
      ...[0x58], // 100011 pop eax
      ...[0xb0, 0x05], // 100012 mov al, 5
      ...[0xc3], // 100014 ret
    ],
    commands: [
      ...PREPARE,
      ["target remote $PORT", /0x0*100000 in/],
      ["show architecture", 'currently "i386"'],
      ["hbreak *0x100011", "Hardware assisted breakpoint 1 at 0x100011"],
      ["continue", /Breakpoint 1, 0x0*100011 in/],
      ["x/1xw $esp", "0x12345678"],
      ["x/2i $pc", /0x100011:\tpop +%eax/, /0x100012:\tmov +\$0x5,%al/],
      ["delete"],
      ["stepi 3", /0x0*10000a in/],
      ["p/x $eax", "= 0x12345605"],
      ["p/x $pc", "= 0x10000a"],
      ["p $cr0", "= [ PE ET ]"],
      ["p/x $cs", "= 0x8"],
      ["p/x $msr_sysenter_cs", "= 0x0"],
      ["set $msr_sysenter_cs = 0x30"],
      ["monitor msr 0x174", "0x174 msr_sysenter_cs = 0x30"],
      ["p $ymm0"],
      ["info threads", /Thread 1 .*32-bit code, CPL 0/],
      ["continue", "the guest ended itself with status 5"],
      ["reverse-stepi", /0x0*10000a in/],
      ["reverse-stepi", /0x0*100014 in/],
      ["continue", "the guest ended itself with status 5"],
      ["reverse-stepi 2", /0x0*100014 in/],
      ["set $eax = 9"],
      ["continue", "the guest ended itself with status 9"],
      ["continue", "exited with code 011"],
    ],
  },
  {
    name: "long",
    mode: "long",
    load: 0x100000,
    code: [
      ...[0x48, 0xb8, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11], // 100000 mov rax, 1122334455667788h
      ...[0x49, 0x89, 0xc0], // 10000a mov r8, rax
      ...[0xb9, 0x64, 0x00, 0x00, 0x00], // 10000d mov ecx, 100
      ...[0x48, 0xff, 0xc2], // 100012 inc rdx
      ...[0xff, 0xc9], // 100015 dec ecx
      ...[0x75, 0xf9], // 100017 jne 100012h
      ...[0x48, 0x89, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00], // 100019 mov [200000h], rax
      ...[0xf4], // 100021 hlt
    ],
    commands: [
      ...PREPARE,
      ["target remote $PORT", /0x0*100000 in/],
      ["show architecture", 'currently "i386:x86-64"'],
      ["set $rdx = 0"],
      ["stepi 2", /0x0*10000d in/],
      ["p/x $r8", "= 0x1122334455667788"],
      ["break *0x100015 if $rdx == 10", "Breakpoint 1 at 0x100015"],
      ["continue", /Breakpoint 1, 0x0*100015 in/],
      ["p $rdx", "= 10"],
      ["p $ecx", "= 91"],
      ["delete"],
      ["awatch *(long*)0x200000", "Hardware access (read/write) watchpoint 2"],
      ["continue", "New value = 1234605616436508552"],
      ["p/x $rip", "= 0x100021"],
      ["p $cr0", "= [ PE ET PG ]"],
      ["p $cr4", "= [ PAE ]"],
      ["p $efer", "= [ LME LMA ]"],
      ["info registers rflags"],
      ["p/x $fs_base", "= 0x0"],
      ["set $fs_base = 0x123000"],
      ["p/x $fs_base", "= 0x123000"],
      ["monitor translate 0x200123", "0x200123 -> 0x200123"],
      ["set $cs = 0x10", "Could not write register"],
      ["kill"],
    ],
  },
  {
    name: "smp",
    mode: "long",
    load: 0x100000,
    vcpus: 2,
    code: [
      ...[0x85, 0xdb], // 100000 test ebx, ebx
      ...[0x75, 0x0d], // 100002 jne 100011h
      ...[0xb8, 0x11, 0x00, 0x00, 0x00], // 100004 mov eax, 11h
      ...[0xff, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00], // 100009 inc dword [200000h]
      0xf4, // 100010 hlt
      ...[0xb8, 0x00, 0x00, 0x00, 0x00], // 100011 mov eax, 0
      ...[0x0f, 0xa2], // 100016 cpuid
      ...[0xff, 0x04, 0x25, 0x00, 0x00, 0x20, 0x00], // 100018 inc dword [200000h]
      ...[0xe6, 0x80], // 10001f out 80h, al
      0xf4, // 100021 hlt
    ],
    commands: [
      ...PREPARE,
      ["target remote $PORT", /0x0*100000 in/],
      ["info threads", /1 +Thread 1 \(vCPU 0, 64-bit code, CPL 0\)/, /2 +Thread 2 \(vCPU 1, 64-bit code, CPL 0\)/],
      ["thread 2"],
      ["p $ebx", "= 1"],
      ["thread 1"],
      ["p $ebx", "= 0"],
      ["watch *(int*)0x200000", "Hardware watchpoint 1"],
      ["continue", "Thread 1 hit Hardware watchpoint 1", "Old value = 0", "New value = 1"],
      ["p/x $pc", "= 0x100010"],
      ["delete"],
      ["break *0x100018", "Breakpoint 2 at 0x100018"],
      ["continue", /Thread 2 hit Breakpoint 2, 0x0*100018 in/],
      ["x/2xb 0x100018", "0xff\t0x04"],
      ["x/1i $pc", /=> 0x100018:\tincl +0x200000/],
      // the leaf-0 signature of the emulated processor, "Genu": @sdm 2A CPUID
      ["p/x $ebx", "= 0x756e6547"],
      ["monitor exits", /kvm_exit: +vcpu 1 reason CPUID rip 0x100016/],
      ["monitor vmcs rip", /rip/i],
      ["stepi", /0x0*10001f in/],
      ["p *(int*)0x200000", "= 2"],
      ["stepi", /0x0*100021 in/],
      ["p $efer", "= [ LME LMA ]"],
      // thread 2 goes back; thread 1 ended before it
      ["reverse-stepi", /0x0*10001f in/],
      ["delete"],
      ["watch *(int*)0x200000", "Hardware watchpoint 3"],
      ["reverse-continue", "Thread 2 hit Hardware watchpoint 3", "Old value = 2", "New value = 1"],
      ["p/x $pc", "= 0x100018"],
      ["reverse-continue", "Thread 1 hit Hardware watchpoint 3", "Old value = 1", "New value = 0"],
      ["p/x $pc", "= 0x100009"],
      ["thread apply 2 p/x $pc", "= 0x100000"],
      ["delete"],
      ["hbreak *0x100021", "Hardware assisted breakpoint 4 at 0x100021"],
      ["continue", /Thread 2 hit Breakpoint 4, 0x0*100021 in/],
      ["p *(int*)0x200000", "= 2"],
      ["delete"],
      ["set $rax = 0x77"],
      ["p/x $rax", "= 0x77"],
      ["hbreak *0x100021"],
      ["continue", "the guest halted and nothing can wake it"],
      ["info threads", /vCPU 0.*halted/, /vCPU 1.*halted/],
      ["kill"],
    ],
  },
  {
    name: "hypervisor",
    mode: "long",
    load: 0x100000,
    cpu: genericModel({ vmx: true }),
    memory: 16,
    code: [...HYPERVISOR],
    commands: [
      ...PREPARE,
      ["target remote $PORT", /0x0*100000 in/],
      ["monitor vmcs", "the guest is not in VMX operation"],
      ["monitor exits", "nothing yet"],
      ["break *0x8006", "Breakpoint 1 at 0x8006"],
      ["continue", /Breakpoint 1, 0x0*8006 in/],
      ["monitor vmcs 0x201000", "VMCS at 0x201000, VMX non-root operation"],
      ["monitor vmcs GUEST_RIP", "GUEST_RIP = 0x0000000000008000"],
      ["monitor vmcs link_pointer", "VMCS_LINK_POINTER = 0xffffffffffffffff"],
      ["monitor exits", /entry VMLAUNCH to rip 0x8000/],
      ["stepi"],
      // basic exit reason 10 is CPUID, 2 bytes long: @sdm 3C "VMX Basic Exit Reasons"
      ["monitor vmcs EXIT_REASON", "EXIT_REASON = 0x0000000a"],
      ["monitor vmcs EXIT_INSTRUCTION_LENGTH", "EXIT_INSTRUCTION_LENGTH = 0x00000002"],
      ["monitor vmcs GUEST_RIP", "GUEST_RIP = 0x0000000000008006"],
      ["monitor vmcs GUEST_CR0", "GUEST_CR0 = 0x0000000000000030"],
      ["monitor vmcs 0x201000", "VMX root operation"],
      ["monitor exits 1", /exit +CPUID rip 0x8006 qualification 0x0/],
      ["monitor vmcs nosuch", 'no line has "nosuch"'],
      ["reverse-stepi", /0x0*8006 in/],
      ["monitor vmcs operation", "VMX non-root operation"],
      ["kill"],
    ],
  },
  {
    name: "vmx-real",
    mode: "real",
    load: 0x7c00,
    vcpus: 1,
    code: [
      ...[0xb8, 0x34, 0x12], // 7c00 mov ax, 1234h
      ...[0xe6, 0x80], // 7c03 out 80h, al
      ...[0x9c], // 7c05 pushf
      ...[0x5b], // 7c06 pop bx
      ...[0xe6, 0xf4], // 7c07 out 0f4h, al
      0xf4, // 7c09 hlt
    ],
    commands: [
      ...PREPARE,
      ["target remote $PORT", /0x0*7c00 in/],
      ["show architecture", 'currently "i8086"'],
      ["stepi", /0x0*7c03 in/],
      ["stepi", /0x0*7c05 in/],
      ["hbreak *0x7c06", "Hardware assisted breakpoint 1 at 0x7c06"],
      ["continue", /Breakpoint 1, 0x0*7c06 in/],
      ["delete"],
      ["stepi", /0x0*7c07 in/],
      ["reverse-stepi", /0x0*7c06 in/],
      // the flags of the guest as PUSHF left them on the stack
      ["p/x *(short*)$sp", /= 0x[0-9a-f]*[02]$/m],
      ["p/x $bx", "= 0x0"],
      ["monitor count", /vCPU 0: 3$/m],
      ["hbreak *0x7c03", "Hardware assisted breakpoint 2 at 0x7c03"],
      ["reverse-continue", /Breakpoint 2, 0x0*7c03 in/],
      ["delete"],
      ["p/x $ax", "= 0x1234"],
      ["reverse-continue", "No more reverse-execution history", /0x0*7c00 in/],
      ["p/x $ax", "= 0x0"],
      ["reverse-stepi", "No more reverse-execution history"],
      ["break *0x7c07", "Breakpoint 3 at 0x7c07"],
      ["continue", /Breakpoint 3, 0x0*7c07 in/],
      ["delete"],
      // TF of the debugger is not in what the guest pushed
      ["p/x $bx & 0x100", "= 0x0"],
      ["continue", "the guest ended itself with status 52"],
      ["continue", "exited with code 064"],
    ],
  },
];
