// What is done with GDB, and what GDB must print: values that follow from the guest's code and the manuals.
import type { CpuModel, StartMode } from "../../src/machine/index.ts";

/** A command for GDB, and what its output must match. */
export type Command = readonly [command: string, ...expected: (string | RegExp)[]];

export interface Scenario {
  readonly name: string;
  readonly mode: StartMode;
  readonly load: number;
  readonly code: readonly number[];
  readonly cpu?: CpuModel;
  /** Present when the guest is given to KVM, with so many vCPUs. */
  readonly vcpus?: number;
  readonly commands: readonly Command[];
}

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
      ["continue", "exited with code 05"],
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
];
