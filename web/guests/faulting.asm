; CPUID faulting, the question of the laboratory. The guest turns faulting on,
; goes to CPL 3, executes CPUIDS CPUIDs that all end in #GP(0), and then does
; OUTS rounds of work that leave to user space. Change the two numbers and
; compare the policies: which of them is cheapest?
        bits 64
CPUIDS  equ 8
OUTS    equ 60
CONSOLE equ 0xE9
STATUS  equ 0xF4
MSR_MISC_FEATURES_ENABLES equ 0x140
CODE    equ 0x08
TSS     equ 0x18
DATA3   equ 0x28 | 3
CODE3   equ 0x30 | 3
STACK0  equ 0x300000
STACK3  equ 0x310000
TABLES  equ 0x400000            ; PML4, PDPT, PD

start:  mov esp, STACK0
        mov edi, TABLES         ; map the first GiB for CPL 3 too
        mov ecx, 0x3000/8
        xor eax, eax
        rep stosq
        mov dword [TABLES], TABLES+0x1007
        mov dword [TABLES+0x1000], TABLES+0x2007
        mov edi, TABLES+0x2000
        mov eax, 0x87
        mov ecx, 512
.map:   mov [rdi], rax
        add rdi, 8
        add rax, 0x200000
        loop .map
        mov eax, TABLES
        mov cr3, rax

        lgdt [gdtr]
        lea rax, [rel gp]       ; gate 13
        mov [idt+13*16], ax
        shr rax, 16
        mov [idt+13*16+6], ax
        lidt [idtr]
        mov eax, tss            ; the descriptor's base
        mov [gdt+TSS+2], ax
        shr eax, 16
        mov [gdt+TSS+4], al
        mov ax, TSS
        ltr ax

        mov ecx, MSR_MISC_FEATURES_ENABLES
        mov eax, 1
        xor edx, edx
        wrmsr                   ; faulting on

        push DATA3
        push STACK3
        push 0x3002             ; IOPL 3
        push CODE3
        push user
        iretq

user:   mov ebp, CPUIDS
.cpuid: xor eax, eax
        cpuid                   ; #GP(0), or a VM exit that KVM answers with one
        dec ebp
        jnz .cpuid
        mov ebp, OUTS
.round: mov ecx, 200            ; some work
.work:  rol eax, 5
        add eax, ecx
        loop .work
        mov al, '.'
        out CONSOLE, al
        dec ebp
        jnz .round
        mov al, 10
        out CONSOLE, al
        cmp dword [faults], CPUIDS
        setne al
        out STATUS, al          ; 0: every CPUID faulted
        jmp $

gp:     inc dword [faults]
        add qword [rsp+8], 2    ; past CPUID
        add rsp, 8              ; the error code
        iretq

        align 8
gdt:    dq 0
        dq 0x00AF9B000000FFFF   ; 08 code, CPL 0
        dq 0x00CF93000000FFFF   ; 10 data
        dq 0x0000890000000067   ; 18 TSS
        dq 0
        dq 0x00CFF3000000FFFF   ; 28 data, CPL 3
        dq 0x00AFFB000000FFFF   ; 30 code, CPL 3
gdtr:   dw $-gdt-1
        dq gdt
        align 16
idt:    times 13*16 db 0
        dw 0, CODE              ; offset 15:0 is filled in
        db 0, 0x8E
        dw 0
        dd 0, 0
idtr:   dw $-idt-1
        dq idt
        align 16
tss:    dd 0
        dq STACK0
        times 104-12 db 0
faults: dd 0
