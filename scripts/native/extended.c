/* Runs single instructions of 64-bit code on this processor with arbitrary registers, flags and memory, and prints
 * what they did:  gcc -O1 -o /tmp/extended scripts/native/extended.c && /tmp/extended > fixtures/native/extended-64.json
 * Registers: rax rcx rdx rbx rdi r8 r9; rsi points to 16 bytes of memory, aligned on 16. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

asm(".section insns,\"a\"\n.section blob,\"a\"\n"
    ".macro insn text:vararg\n"
    ".section blob\n1: \\text\n2:\n.section insns\n.quad 1b, 2b - 1b\n.endm\n"
    ".irp op, popcnt, tzcnt, lzcnt\n"
    "insn \\op %cx, %ax\ninsn \\op %ecx, %eax\ninsn \\op %rcx, %rax\ninsn \\op (%rsi), %edx\n.endr\n"
    "insn andn %ecx, %edx, %eax\ninsn andn %rcx, %rdx, %rax\ninsn andn (%rsi), %r8, %r9\n"
    ".irp op, blsr, blsmsk, blsi\n"
    "insn \\op %ecx, %eax\ninsn \\op %rcx, %rax\ninsn \\op (%rsi), %r9\n.endr\n"
    ".irp op, bzhi, bextr, shlx, shrx, sarx\n"
    "insn \\op %ecx, %edx, %eax\ninsn \\op %rcx, %rdx, %rax\ninsn \\op %r8, (%rsi), %r9\n.endr\n"
    ".irp op, pext, pdep\n"
    "insn \\op %ecx, %edx, %eax\ninsn \\op %rcx, %rdx, %rax\ninsn \\op (%rsi), %r8, %r9\n.endr\n"
    "insn mulx %ecx, %ebx, %eax\ninsn mulx %rcx, %rbx, %rax\ninsn mulx (%rsi), %r9, %r9\n"
    "insn rorx $5, %ecx, %eax\ninsn rorx $37, %rcx, %rax\ninsn rorx $63, (%rsi), %r9\ninsn rorx $32, %ecx, %eax\n"
    "insn movbe (%rsi), %ax\ninsn movbe (%rsi), %eax\ninsn movbe (%rsi), %rax\n"
    "insn movbe %cx, (%rsi)\ninsn movbe %ecx, (%rsi)\ninsn movbe %r9, 8(%rsi)\n"
    "insn crc32b %cl, %eax\ninsn crc32b %ch, %eax\ninsn crc32w %cx, %eax\ninsn crc32l %ecx, %eax\n"
    "insn crc32q %rcx, %rax\ninsn crc32b %dil, %r9\ninsn crc32q (%rsi), %rdx\n"
    ".irp op, adcx, adox\n"
    "insn \\op %ecx, %eax\ninsn \\op %rcx, %rax\ninsn \\op (%rsi), %r9\n.endr\n"
    "insn cmpxchg8b (%rsi)\ninsn lock cmpxchg8b 8(%rsi)\ninsn cmpxchg16b (%rsi)\ninsn lock cmpxchg16b (%rsi)\n"
    "insn movnti %ecx, 4(%rsi)\ninsn movnti %r9, 8(%rsi)\n"
    "insn .byte 0xf3, 0x41, 0x90\ninsn .byte 0x41, 0x90\ninsn .byte 0x66, 0x63, 0xc1\ninsn .byte 0x66, 0x48, 0x0f, 0xc9\n"
    ".text\n");
struct insn { const uint8_t *bytes; uint64_t length; };
extern const struct insn __start_insns[], __stop_insns[];

struct state { uint64_t rax, rcx, rdx, rbx, rdi, r8, r9, flags; uint64_t memory[2]; } __attribute__((aligned(16)));

void run(struct state *s);
extern uint8_t slot[];
asm(".section runs,\"awx\"\n.globl run, slot\nrun:\n"
    "push %rbx\npush %rbp\npush %r12\nmov %rdi, %r12\nlea 64(%r12), %rsi\n"
    "mov (%r12), %rax\nmov 8(%r12), %rcx\nmov 16(%r12), %rdx\nmov 24(%r12), %rbx\nmov 32(%r12), %rdi\n"
    "mov 40(%r12), %r8\nmov 48(%r12), %r9\npush 56(%r12)\npopfq\n"
    "slot: .fill 16, 1, 0x90\n"
    "pushfq\npop 56(%r12)\nmov %rax, (%r12)\nmov %rcx, 8(%r12)\nmov %rdx, 16(%r12)\nmov %rbx, 24(%r12)\n"
    "mov %rdi, 32(%r12)\nmov %r8, 40(%r12)\nmov %r9, 48(%r12)\npop %r12\npop %rbp\npop %rbx\nret\n.text\n");

static uint64_t seed = 1;
static uint64_t next(void) {
  seed ^= seed << 13, seed ^= seed >> 7, seed ^= seed << 17;
  return seed;
}
/* Corners as often as anything else. */
static uint64_t value(void) {
  static const uint64_t corners[] = {0, 1, 0x80, 0x7fff, 0x8000, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
                                     0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, 31, 32, 63, 64, 0x1008};
  uint64_t r = next();
  if (r % 3 == 0) return corners[(r >> 8) % (sizeof corners / sizeof *corners)];
  return r % 3 == 1 ? next() >> ((r >> 8) & 63) : next();
}

static void print(const struct state *s) {
  const uint64_t *w = (const uint64_t *)s;
  for (int i = 0; i < 10; i++) printf("%s%llx", i ? " " : "", (unsigned long long)(i == 7 ? w[i] & 0x8d5 : w[i]));
}

int main(void) {
  printf("[\n");
  for (const struct insn *p = __start_insns; p < __stop_insns; p++) {
    memset(slot, 0x90, 16);
    memcpy(slot, p->bytes, p->length);
    printf("%s{\"bytes\":\"", p == __start_insns ? "" : ",\n");
    for (uint64_t i = 0; i < p->length; i++) printf("%02x", p->bytes[i]);
    printf("\",\"cases\":[");
    for (int n = 0; n < 16; n++) {
      struct state s;
      for (int i = 0; i < 10; i++) ((uint64_t *)&s)[i] = value();
      s.flags = 0x202 | (next() & 0x8d5);
      /* half of the compare-and-exchanges succeed */
      if (n & 1) s.memory[0] = s.rax, s.memory[1] = s.rdx;
      if ((n & 3) == 2) s.memory[0] = s.memory[1] = (s.rdx << 32) | (uint32_t)s.rax;
      printf("%s\"", n ? ",\n" : "\n");
      print(&s);
      run(&s);
      printf(" > ");
      print(&s);
      printf("\"");
    }
    printf("]}");
  }
  printf("\n]\n");
  return 0;
}
