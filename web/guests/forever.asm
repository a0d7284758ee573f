; A guest that never ends. The page stays as quick as ever: pause it, look, go on.
        bits 32
start:  xor eax, eax
.loop:  inc eax
        mov [counter], eax
        jmp .loop

counter: dd 0
