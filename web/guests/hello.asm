; Hello: prints a line on the debug console and the sum of 1 to 100.
; Ctrl+Enter loads what you write; step, look, change, go back.
        bits 64
CONSOLE equ 0xE9                ; a byte a write
STATUS  equ 0xF4                ; ends the guest

start:  lea rsi, [rel text]
.next:  lodsb
        test al, al
        jz sum
        out CONSOLE, al
        jmp .next

sum:    xor eax, eax
        mov ecx, 100
.add:   add eax, ecx
        loop .add

        mov ebx, 10             ; digits, last one first
        mov rsp, 0x200000
        push 0
.digit: xor edx, edx
        div ebx
        add edx, '0'
        push rdx
        test eax, eax
        jnz .digit
.print: pop rax
        test al, al
        jz .end
        out CONSOLE, al
        jmp .print
.end:   mov al, 10
        out CONSOLE, al
        xor eax, eax
        out STATUS, al

text:   db `Hello from long mode\n1 + 2 + ... + 100 = `, 0
