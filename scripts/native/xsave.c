// What this processor does with x87 state in XSAVE areas, as JSON: fixtures/native/xsave.json. User mode, RFBM bit 0 only.
//   gcc -O1 -o /tmp/xsave scripts/native/xsave.c && /tmp/xsave > fixtures/native/xsave.json
// A case: instruction, REX.W, EDX:EAX, x87 state before as an XSAVE64 image of 160 bytes ("" = initial), bytes 0-159 and 512-575 of the
// area before; then the fault ("" or "GP", "PF" with the offset in the area) and, without one, what the area and the state are.
// Pages of the area: how many bytes lie in the first, and what each allows (0 nothing, 1 reads, 3 all).
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

static sigjmp_buf back;
static uint8_t *fault_at;
static int fault_code;
static void handler(int s, siginfo_t *i, void *u) {
  (void)u;
  fault_at = i->si_addr;
  fault_code = i->si_code;
  siglongjmp(back, s);
}
#define OP(name, insn)                                                                            \
  static int name(void *p, uint32_t a, uint32_t d) {                                              \
    int s = sigsetjmp(back, 1);                                                                   \
    if (s) return s;                                                                              \
    asm volatile(insn " (%0)" ::"r"(p), "a"(a), "d"(d) : "memory");                               \
    return 0;                                                                                     \
  }
OP(xsave, "xsave")
OP(xsave64, "xsave64")
OP(xsaveopt, "xsaveopt")
OP(xsaveopt64, "xsaveopt64")
OP(xsavec, "xsavec")
OP(xsavec64, "xsavec64")
OP(xrstor, "xrstor")
OP(xrstor64, "xrstor64")
typedef int (*op)(void *, uint32_t, uint32_t);
static const struct { const char *name; op run[2]; int saves; } OPS[] = {
    {"xsave", {xsave, xsave64}, 1}, {"xsaveopt", {xsaveopt, xsaveopt64}, 1}, {"xsavec", {xsavec, xsavec64}, 1}, {"xrstor", {xrstor, xrstor64}, 0}};

static uint64_t seed = 0x9e3779b97f4a7c15;
static uint64_t next(void) {
  seed ^= seed << 13;
  seed ^= seed >> 7;
  return seed ^= seed << 17;
}
static uint8_t *page;    // two pages, and one behind
static uint8_t *scratch; // an area of its own

/** FIP and FDP: below 2^47, where processors with more address bits agree. */
static void image(uint8_t *p, int kind) {
  for (int i = 0; i < 160; i++) p[i] = kind == 1 ? 0xff : kind == 2 ? 0 : next();
  if (kind) return;
  for (int at = 8; at < 24; at += 8) p[at + 5] &= 0x7f, p[at + 6] = p[at + 7] = 0;
  if (next() & 1) p[0] |= 0x3f; // all exceptions masked
}
static void set_state(const uint8_t *p) {
  memset(scratch, 0, 1024);
  if (p) memcpy(scratch, p, 160), scratch[512] = 1;
  xrstor64(scratch, 1, 0);
}
static void hex(const char *name, const uint8_t *p, int n) {
  printf(",\"%s\":\"", name);
  for (int i = 0; i < n; i++) printf("%02x", p[i]);
  printf("\"");
}
static int in_use(void) {
  uint32_t a, d;
  asm volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(1));
  return a & 1;
}
static int first = 1;

static void run(int o, int wide, uint32_t eax, uint32_t edx, const uint8_t *state, const uint8_t *before, const uint8_t *header, int inFirst, int p1, int p2, int more) {
  uint8_t *area = page + 4096 - inFirst;
  mprotect(page, 8192, 3);
  memset(page, 0, 8192);
  memcpy(area, before, 160);
  memcpy(area + 512, header, 64);
  printf("%s{\"op\":\"%s\",\"wide\":%d,\"eax\":%u,\"edx\":%u", first ? "[\n" : ",\n", OPS[o].name, wide, eax, edx);
  first = 0;
  if (more) printf(",\"off\":%d", more);
  if (inFirst != 2048) printf(",\"pages\":[%d,%d,%d]", inFirst, p1, p2);
  if (state) hex("state", state, 160);
  if (!OPS[o].saves || state) hex("area", before, 160);
  hex("header", header, 64);
  set_state(state);
  mprotect(page, 4096, p1), mprotect(page + 4096, 4096, p2);
  int s = OPS[o].run[wide](area + more, eax, edx);
  int used = in_use();
  mprotect(page, 8192, 3);
  if (s) {
    printf(",\"fault\":\"%s\"", fault_code == SI_KERNEL ? "GP" : s == SIGBUS ? "AC" : "PF");
    if (fault_code != SI_KERNEL) printf(",\"at\":%ld", (long)(fault_at - area));
  } else {
    printf(",\"used\":%d", used);
    if (OPS[o].saves) {
      hex("after", area, 160), hex("headerAfter", area + 512, 64);
    } else {
      memset(scratch, 0, 1024);
      xsave64(scratch, 1, 0);
      hex("after", scratch, 160);
    }
  }
  printf("}");
}

int main(void) {
  struct sigaction sa = {0};
  sa.sa_sigaction = handler;
  sa.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &sa, 0), sigaction(SIGBUS, &sa, 0), sigaction(SIGILL, &sa, 0);
  page = mmap(0, 12288, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  scratch = mmap(0, 4096, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  uint8_t state[160], area[160], header[64];
  // images
  for (int o = 0; o < 4; o++) for (int wide = 0; wide < 2; wide++) for (int k = 0; k < 8; k++) {
    image(state, k == 1 ? 1 : k == 2 ? 2 : 0);
    image(area, k == 3 ? 1 : k == 4 ? 2 : 0);
    memset(header, 0, 64);
    int saves = OPS[o].saves;
    // XSTATE_BV bits that stay as they are, and bytes that are not looked at
    if (saves) { for (int i = 0; i < 64; i++) header[i] = next(); }
    else {
      header[0] = k != 5;
      if (k & 1) header[8] = 1, header[15] = 0x80;
      else header[30] = 0x11;
    }
    // bits without an enabled component do not count
    uint32_t eax = k == 6 ? 0 : k == 7 ? 0xffffff01 : 1, edx = k == 7 ? 0xffffffff : 0;
    run(o, wide, eax, edx, saves && k == 5 ? 0 : state, area, header, 2048, 3, 3, 0);
  }
  // status and control words: which bits exist, which follow from others
  static const uint16_t WORDS[][2] = {{0, 1}, {0x37f, 1}, {0x37e, 1}, {0, 0x80}, {0xffff, 0x8080}, {0x37f, 0x7f7f}, {0x1000, 0xc040}, {0xe080, 0x4700}, {0x33f, 0x3f}, {0x340, 0xff20}};
  for (unsigned k = 0; k < sizeof WORDS / 4; k++) {
    memset(state, 0, 160), memset(area, 0, 160), memset(header, 0, 64);
    memcpy(area, WORDS[k], 4);
    header[0] = 1;
    run(3, 1, 1, 0, state, area, header, 2048, 3, 3, 0);
  }
  // headers
  static const struct { int at; uint8_t value; } HEADER[] = {{-1, 0}, {1, 0x20}, {7, 0x80}, {8, 1}, {9, 0x20}, {14, 1}, {16, 1}, {23, 1}, {24, 1}, {63, 1}};
  for (int compact = 0; compact < 3; compact++) for (unsigned k = 0; k < sizeof HEADER / 8; k++) {
    memset(header, 0, 64);
    header[0] = 1;
    if (compact) header[15] = 0x80;
    if (compact == 1) header[8] = 1;
    if (HEADER[k].at >= 0) header[HEADER[k].at] |= HEADER[k].value;
    run(3, 0, 1, 0, state, area, header, 2048, 3, 3, 0);
  }
  // places that are not a multiple of 64
  for (int o = 0; o < 4; o++) for (int off = 1; off < 64; off += 31) run(o, 0, 1, 0, state, area, header, 2048, 3, 3, off);
  // pages
  memset(header, 0, 64);
  for (int o = 0; o < 4; o++) for (int rfbm = 0; rfbm < 2; rfbm++) for (int used = 0; used < 2; used++) for (int in = 64; in <= 512; in += 448)
    for (int p = 0; p < 7; p++) {
      static const int PAGES[][2] = {{3, 3}, {0, 3}, {1, 3}, {3, 0}, {3, 1}, {0, 0}, {1, 1}};
      header[0] = used;
      run(o, 0, rfbm, 0, used ? state : 0, area, header, in, PAGES[p][0], PAGES[p][1], 0);
    }
  printf("\n]\n");
}
