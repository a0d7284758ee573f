; A tour of VM exits: run it under KVM and open "VM exits".
; Each instruction below leaves the guest for another reason.
        bits 64
CONSOLE equ 0xE9
STATUS  equ 0xF4
MSR_PLATFORM_INFO         equ 0xCE
MSR_MISC_FEATURES_ENABLES equ 0x140

start:  mov esp, 0x200000
        xor eax, eax            ; CPUID leaves always
        xor ecx, ecx
        cpuid
        mov [vendor], ebx
        mov [vendor+4], edx
        mov [vendor+8], ecx
        mov esi, vendor         ; OUT leaves to user space, 13 times
        mov ecx, 13
        mov dx, CONSOLE
        rep outsb

        mov ecx, MSR_PLATFORM_INFO
        rdmsr                   ; bit 31: CPUID faulting is there
        bt eax, 31
        jnc .done
        mov ecx, MSR_MISC_FEATURES_ENABLES
        mov eax, 1
        xor edx, edx
        wrmsr                   ; the virtual 0x140 is 1 now
        cpuid                   ; at CPL 0 it still works

        mov rax, cr4            ; reading does not leave
        or eax, 0x10            ; PSE: a bit that KVM watches
        mov cr4, rax
        in al, 0x71             ; IN leaves to user space, too
        mov byte [0x300000], 1  ; a page not touched before: EPT violation
        rdtsc                   ; stays in the guest
.done:  xor eax, eax
        out STATUS, al

vendor: db "............", 10
