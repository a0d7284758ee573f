// Runs cases on the processor itself: each in a window of its own below 4 GiB, in 64-bit, 32-bit or 16-bit code at CPL 3.
// stdin: the image of the data pages, then cases; stdout: one result a case. Numbers come from layout.ts as macros.
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <asm/prctl.h>
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

// one page, far above the window; its bits 31:16 are zero because IRET to a 16-bit stack leaves those of ESP alone
#define FRAME 0x7e0000000000ull
#define AREA 0x7e0000001000ull

struct area {
  uint64_t gpr[16];      // 0
  uint64_t rflags;       // 128
  uint64_t host_rsp;     // 136
  uint64_t host_rip;     // 144
  uint64_t host_fs;      // 152
  uint64_t fs_base;      // 160
  uint64_t gs_base;      // 168
  uint16_t selectors[6]; // 176 ES CS SS DS FS GS, in and out
  uint16_t pad[2];
  uint32_t vector, error; // 192
  uint64_t cr2, rip;      // 200
};
static struct area *const area = (struct area *)AREA;
static uint8_t *code, *image;  // writable views of the window's pages
static uint8_t initial[IMAGE_SIZE];

// Loads what the area holds and enters the case; comes back when the case is over.
void enter_case(void);
__asm__(
    ".text\n.globl enter_case\nenter_case:\n"
    "push %rbx\npush %rbp\npush %r12\npush %r13\npush %r14\npush %r15\n"
    "movabs $0x7e0000001000,%r15\n"
    "mov %rsp,136(%r15)\n"
    "lea leave_case(%rip),%rax\nmov %rax,144(%r15)\n"
    "mov 176(%r15),%es\nmov 182(%r15),%ds\nmov 184(%r15),%fs\nmov 186(%r15),%gs\n"
    "cmpw $0x33,178(%r15)\njne 1f\n"
    "mov 160(%r15),%rax\nwrfsbase %rax\nmov 168(%r15),%rax\nwrgsbase %rax\n"
    "1: movabs $0x7e0000000800,%rsp\n"
    "mov 0(%r15),%rax\nmov 8(%r15),%rcx\nmov 16(%r15),%rdx\nmov 24(%r15),%rbx\n"
    "mov 40(%r15),%rbp\nmov 48(%r15),%rsi\nmov 56(%r15),%rdi\nmov 64(%r15),%r8\n"
    "mov 72(%r15),%r9\nmov 80(%r15),%r10\nmov 88(%r15),%r11\nmov 96(%r15),%r12\n"
    "mov 104(%r15),%r13\nmov 112(%r15),%r14\nmov 120(%r15),%r15\n"
    "iretq\n"
    ".globl leave_case\nleave_case:\n"
    "movabs $0x7e0000001000,%r15\n"
    "mov %es,176(%r15)\nmov %ds,182(%r15)\nmov %fs,184(%r15)\nmov %gs,186(%r15)\n"
    "cmpl $-1,192(%r15)\njne 1f\nmov %ss,180(%r15)\n1:\n"
    "mov $0x2b,%eax\nmov %eax,%ss\nmov %eax,%ds\nmov %eax,%es\n"
    "mov 152(%r15),%rax\nwrfsbase %rax\n"
    "mov 136(%r15),%rsp\npush $2\npopfq\n"
    "pop %r15\npop %r14\npop %r13\npop %r12\npop %rbp\npop %rbx\nret\n");
void leave_case(void);

static volatile unsigned running, seen;  // number of the case that runs, 0 between two; that at the last tick

static void on_signal(int sig, siginfo_t *info, void *context) {
  (void)info;
  if (sig == SIGALRM && (!running || running != seen)) {
    seen = running;
    return;
  }
  greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  static const int order[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  for (int i = 0; i < 16; i++) area->gpr[i] = g[order[i]];
  area->rflags = g[REG_EFL];
  area->vector = sig == SIGALRM ? STUCK : g[REG_TRAPNO];
  area->error = g[REG_ERR];
  area->cr2 = g[REG_CR2];
  area->rip = g[REG_RIP];
  uint64_t segments = g[REG_CSGSFS];
  area->selectors[1] = segments;
  area->selectors[2] = segments >> 48;
  g[REG_CSGSFS] = (segments & 0x0000ffffffff0000ull) | 0x33 | (0x2bull << 48);
  g[REG_RIP] = area->host_rip;
  g[REG_RSP] = area->host_rsp;
  g[REG_EFL] = 0x202;
}

static void die(const char *what) {
  perror(what);
  exit(1);
}

static uint8_t *pages(uint64_t at, size_t size, int protection, uint8_t **writable) {
  int fd = memfd_create("window", 0);
  if (fd < 0 || ftruncate(fd, size)) die("memfd");
  void *p = mmap((void *)at, size, protection, MAP_SHARED | MAP_FIXED | MAP_POPULATE, fd, 0);
  if (p != (void *)at) die("mmap");
  *writable = mmap(0, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
  if (*writable == MAP_FAILED) die("mmap");
  close(fd);
  return p;
}

static uint8_t *put(uint8_t *p, const void *bytes, size_t n) { return (uint8_t *)memcpy(p, bytes, n) + n; }

static void make_stubs(uint8_t *page) {
  uint8_t *p = page + STUB_16 - STUB;
  uint32_t out = BASE + STUB_64;
  uint16_t cs = 0x33;
  memset(page, 0xcc, 4096);
  p = put(p, "\x66\xea", 2);  // jmp far 33:out
  p = put(p, &out, 4);
  put(p, &cs, 2);
  p = page + STUB_32 - STUB;
  p = put(p, "\xea", 1);
  p = put(p, &out, 4);
  put(p, &cs, 2);
  p = page + STUB_64 - STUB;
  uint64_t at = AREA;
  p = put(p, "\x48\xa3", 2);  // mov [AREA], rax
  p = put(p, &at, 8);
  p = put(p, "\x48\xb8", 2);  // mov rax, AREA
  p = put(p, &at, 8);
  for (int r = 1; r < 16; r++) {  // mov [rax + 8 r], r
    *p++ = r < 8 ? 0x48 : 0x4c;
    *p++ = 0x89;
    *p++ = 0x40 | (r & 7) << 3;
    *p++ = r * 8;
  }
  // mov rsp, [rax + 136]; pushfq; pop rcx; mov [rax + 128], rcx; push 2; popfq; jmp [rax + 144]
  p = put(p, "\x48\x8b\xa0\x88\0\0\0\x9c\x59\x48\x89\x88\x80\0\0\0\x6a\x02\x9d\xff\xa0\x90\0\0\0", 25);
}

static void segment(int entry, uint32_t base, uint32_t limit, int contents, int wide, int in_pages, int narrow,
                    int absent) {
  struct user_desc d;
  memset(&d, 0, sizeof d);
  d.read_exec_only = narrow;
  d.seg_not_present = absent;
  d.entry_number = entry;
  d.base_addr = base;
  d.limit = limit;
  d.contents = contents;
  d.seg_32bit = wide;
  d.limit_in_pages = in_pages;
  if (syscall(SYS_modify_ldt, 0x11, &d, sizeof d)) die("modify_ldt");
}

static void set_up(void) {
  uint8_t *stub, *read_only;
  pages(BASE + CODE, CODE_SIZE, PROT_READ | PROT_EXEC, &code);
  pages(BASE + STUB, 4096, PROT_READ | PROT_EXEC, &stub);
  memset(code, 0xcc, CODE_SIZE);
  make_stubs(stub);
  pages(BASE + READ_ONLY, DATA - READ_ONLY, PROT_READ, &read_only);
  image = pages(BASE + DATA, DATA_SIZE, PROT_READ | PROT_WRITE, &image);
  memcpy(read_only, initial, DATA - READ_ONLY);
  memcpy(image, initial + DATA - READ_ONLY, DATA_SIZE);
  // touch every page so that none faults for the kernel's own reasons
  for (int i = 0; i < DATA_SIZE; i += 4096) ((volatile uint8_t *)(uint64_t)(BASE + DATA))[i] = image[i];
  if (mmap((void *)FRAME, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_POPULATE, -1,
           0) == MAP_FAILED)
    die("mmap");
  segment(0, BASE, CODE16_LIMIT_PAGES, 2, 0, 1, 0, 0);
  segment(1, BASE, 0xffff, 0, 0, 0, 0, 0);
  segment(2, BASE + DATA, 0x1fff, 0, 1, 0, 0, 0);
  segment(3, BASE, DATA - 1, 1, 1, 0, 0, 0);
  segment(4, 0, 0xfffff, 0, 1, 1, 0, 1);
  segment(5, 0, 0xfffff, 0, 1, 1, 1, 0);
  segment(6, 0, 0xfffff, 2, 1, 1, 1, 0);
  segment(7, 0, 0xfffff, 3, 1, 1, 0, 1);
  segment(8, 0, 0xfffff, 2, 1, 1, 0, 1);
  stack_t alternate = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
  if (sigaltstack(&alternate, 0)) die("sigaltstack");
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGALRM};
  for (int i = 0; i < 6; i++)
    if (sigaction(signals[i], &action, 0)) die("sigaction");
  syscall(SYS_arch_prctl, ARCH_GET_FS, &area->host_fs);
}

static void run_case(const uint8_t *c) {
  static int last_at = CODE_AT;
  int bits = c[CASE_BITS], length = c[CASE_LENGTH];
  uint16_t at, patch_at, patch_length;
  memcpy(&at, c + CASE_AT, 2);
  memcpy(&patch_at, c + CASE_PATCHAT, 2);
  memcpy(&patch_length, c + CASE_PATCHLENGTH, 2);
  memset(code + last_at, 0xcc, last_at + MAX_CODE + 8 > CODE_SIZE ? CODE_SIZE - last_at : MAX_CODE + 8);
  last_at = at;
  uint8_t text[MAX_CODE + 8];
  memcpy(text, c + CASE_CODE, length);
  int32_t stub = bits == 16 ? STUB_16 : bits == 32 ? STUB_32 : STUB_64;
  int size = length;
  if (bits == 16) text[size++] = 0x66;
  text[size++] = 0xe9;
  size += 4;
  int32_t displacement = stub - (at + size);
  memcpy(text + size - 4, &displacement, 4);
  memcpy(code + at, text, at + size > CODE_SIZE ? CODE_SIZE - at : size);
  if (patch_length) memcpy(image + patch_at - DATA, c + CASE_PATCH, patch_length);

  memcpy(area->gpr, c + CASE_GPR, 128);
  memcpy(&area->fs_base, c + CASE_FSBASE, 16);
  uint64_t *frame = (uint64_t *)(FRAME + 0x800);
  memcpy(&frame[2], c + CASE_RFLAGS, 8);
  frame[3] = area->gpr[4];
  uint16_t *s = area->selectors;
  if (bits == 64) {
    s[0] = s[2] = s[3] = 0x2b;
    s[1] = 0x33;
    s[4] = s[5] = 0;
  } else if (bits == 32) {
    s[0] = s[2] = s[3] = 0x2b;
    s[1] = 0x23;
  } else {
    s[0] = s[2] = s[3] = 0x0f;
    s[1] = 0x07;
  }
  if (bits != 64) {
    s[4] = 0x17;
    s[5] = 0x1f;
  }
  frame[0] = bits == 16 ? at : BASE + at;
  frame[1] = s[1];
  frame[4] = s[2];
  area->vector = -1;
  area->error = 0;
  area->cr2 = area->rip = 0;
  static unsigned serial;
  if (!++serial) serial = 1;
  running = serial;
  enter_case();
  running = 0;
  if (area->vector == (uint32_t)-1) s[1] = 0;
}

static uint8_t *write_result(uint8_t *out) {
  memcpy(out + RESULT_VECTOR, &area->vector, 4);
  memcpy(out + RESULT_ERROR, &area->error, 4);
  if (area->vector != 14) area->cr2 = 0;
  memcpy(out + RESULT_CR2, &area->cr2, 8);
  memcpy(out + RESULT_RIP, &area->rip, 8);
  memcpy(out + RESULT_GPR, area->gpr, 128);
  memcpy(out + RESULT_RFLAGS, &area->rflags, 8);
  memcpy(out + RESULT_SELECTORS, area->selectors, 12);
  uint32_t words = 0;
  const uint64_t *was = (uint64_t *)(initial + DATA - READ_ONLY);
  uint64_t *now = (uint64_t *)image;
  uint8_t *p = out + RESULT_HEAD;
  for (uint32_t i = 0; i < DATA_SIZE / 8; i++)
    if (was[i] != now[i]) {
      uint32_t index = i + (DATA - READ_ONLY) / 8;
      p = put(p, &index, 4);
      p = put(p, &now[i], 8);
      now[i] = was[i];
      words++;
    }
  memcpy(out + RESULT_WORDS, &words, 4);
  return p;
}

static int read_all(void *to, size_t size) {
  for (size_t n = 0; n < size;) {
    ssize_t got = read(0, (char *)to + n, size - n);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return 0;
    n += got;
  }
  return 1;
}

static void write_all(const void *from, size_t size) {
  for (size_t n = 0; n < size;) {
    ssize_t put = write(1, (const char *)from + n, size - n);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) die("write");
    n += put;
  }
}

int main(void) {
  if (!read_all(initial, sizeof initial)) die("image");
  set_up();
  // a case that is still there after two ticks does not end: a loop, or a fault that the kernel restarts for ever
  struct itimerval tick = {{1, 0}, {1, 0}};
  setitimer(ITIMER_REAL, &tick, 0);
  for (;;) {
    uint32_t count;
    if (!read_all(&count, 4)) return 0;
    uint8_t *cases = malloc((size_t)count * CASE_SIZE);
    uint8_t *results = malloc((size_t)count * (RESULT_HEAD + 64) + (DATA_SIZE / 8) * RESULT_WORD + RESULT_HEAD);
    size_t room = (size_t)count * (RESULT_HEAD + 64);
    if (!cases || !results) die("malloc");
    if (!read_all(cases, (size_t)count * CASE_SIZE)) return 0;
    uint8_t *p = results;
    for (uint32_t i = 0; i < count; i++) {
      run_case(cases + (size_t)i * CASE_SIZE);
      p = write_result(p);
      if ((size_t)(p - results) > room) {
        write_all(results, p - results);
        p = results;
      }
    }
    write_all(results, p - results);
    free(cases);
    free(results);
  }
}
