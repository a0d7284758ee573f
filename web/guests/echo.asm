; Echo: reads the serial port and sends everything back in capitals.
; Type into the console's input line; "q" ends the guest.
        bits 64
SERIAL  equ 0x3F8
STATUS  equ 0xF4

start:  mov esi, prompt
        mov ecx, prompt_end-prompt
        mov dx, SERIAL
        rep outsb
.wait:  mov dx, SERIAL+5        ; line status: bit 0, a byte is there
        in al, dx
        test al, 1
        jz .wait
        mov dx, SERIAL
        in al, dx
        cmp al, 'q'
        je .end
        cmp al, 'a'
        jb .send
        cmp al, 'z'
        ja .send
        sub al, 'a'-'A'
.send:  out dx, al
        jmp .wait
.end:   mov al, 10
        out dx, al
        xor eax, eax
        out STATUS, al

prompt: db `Type something: `
prompt_end:
