/* Intel AMX in software, for machines without it: a handler of SIGILL decodes the tile instructions, executes them
 * on tiles in memory as the manual says (Intel SDM volume 2, "Operation" of each instruction), and goes on behind.
 *
 * Covered: LDTILECFG STTILECFG TILERELEASE TILEZERO TILELOADD TILELOADDT1 TILESTORED TDPB{SS,SU,US,UU}D TDPBF16PS, in
 * 64-bit code. Tiles belong to the thread, as on silicon. Whatever else is illegal, and whatever a processor would
 * fault on (no configuration, shapes that do not fit), goes to the handler that was there before.
 */
#define _GNU_SOURCE
#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { TILES = 8, MAX_ROWS = 16, ROW_BYTES = 64 };

struct tile { uint8_t row[MAX_ROWS][ROW_BYTES]; };

/* What LDTILECFG reads and STTILECFG writes, bytes 0 … 63. */
struct config {
    uint8_t palette, start_row, reserved[14];
    uint16_t colsb[16];
    uint8_t rows[16];
} __attribute__((packed));

struct state {
    struct config config;
    struct tile tile[TILES];
};

static __thread struct state *mine __attribute__((tls_model("initial-exec")));
static struct sigaction before;
static uint64_t executed;

uint64_t amx_executed(void) { return __atomic_load_n(&executed, __ATOMIC_RELAXED); }

/* ---------------------------------------------------------------- decoding */

struct instruction {
    unsigned prefix;           /* VEX.pp: 0 none, 1 66, 2 F3, 3 F2 */
    unsigned opcode, mod, reg, rm, vvvv;
    unsigned has_sib;
    uint64_t base;             /* address of the memory operand, or of its first row */
    uint64_t stride;           /* index register << scale, 0 without an index */
    unsigned length;
};

static const int REGISTERS[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                  REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

static int32_t displacement(const uint8_t *at, unsigned size) {
    int32_t wide;
    if (size == 1) return (int8_t)*at;
    memcpy(&wide, at, 4);
    return wide;
}

/* A three-byte VEX instruction of map 0F38 with L = 0 and W = 0: prefix C4, RXB and map, W vvvv L pp, opcode, ModRM. */
static int decode(const greg_t *registers, struct instruction *i) {
    const uint8_t *code = (const uint8_t *)registers[REG_RIP];
    if (code[0] != 0xC4 || (code[1] & 0x1F) != 2 || (code[2] & 0x84) != 0) return 0;
    const unsigned r = !(code[1] & 0x80), x = !(code[1] & 0x40), b = !(code[1] & 0x20);
    memset(i, 0, sizeof *i);
    i->prefix = code[2] & 3;
    i->vvvv = (~code[2] >> 3) & 15;
    i->opcode = code[3];
    i->mod = code[4] >> 6;
    i->reg = ((code[4] >> 3) & 7) | r << 3;
    i->rm = (code[4] & 7) | b << 3;
    const uint8_t *next = code + 5;
    if (i->mod != 3) {
        int has_base = 1;
        unsigned base = i->rm;
        if ((code[4] & 7) == 4) {
            const uint8_t sib = *next++;
            const unsigned index = ((sib >> 3) & 7) | x << 3;
            i->has_sib = 1;
            if (index != 4) i->stride = (uint64_t)registers[REGISTERS[index]] << (sib >> 6);
            base = (sib & 7) | b << 3;
            has_base = !((sib & 7) == 5 && i->mod == 0);
        } else if ((code[4] & 7) == 5 && i->mod == 0) {
            has_base = 0;      /* RIP-relative: the address of the next instruction, which is 4 bytes on */
            i->base = (uint64_t)(next + 4);
        }
        if (has_base) i->base = registers[REGISTERS[base]];
        const unsigned size = i->mod == 1 ? 1 : i->mod == 2 || !has_base ? 4 : 0;
        if (size) i->base += displacement(next, size);
        next += size;
    }
    i->length = next - code;
    return 1;
}

/* ------------------------------------------------------------- instructions */

static int load_config(struct state *s, const struct instruction *i) {
    struct config c;
    memcpy(&c, (const void *)(i->base + i->stride), sizeof c);
    memset(s->tile, 0, sizeof s->tile);
    if (c.palette == 0) {
        memset(&s->config, 0, sizeof s->config);
        return 1;
    }
    if (c.palette != 1) return 0;
    for (int n = 0; n < 14; n++)
        if (c.reserved[n]) return 0;
    for (int n = 0; n < 16; n++)
        if (c.rows[n] > (n < TILES ? MAX_ROWS : 0) || c.colsb[n] > (n < TILES ? ROW_BYTES : 0)
            || !c.rows[n] != !c.colsb[n]) return 0;
    s->config = c;
    return 1;
}

/* Products of four bytes in every dword, wrapping; `left` and `right` tell which side is signed. */
static void dot_bytes(struct state *s, const struct instruction *i, int left, int right) {
    const struct config *c = &s->config;
    struct tile *total = &s->tile[i->reg];
    const struct tile *a = &s->tile[i->rm], *b = &s->tile[i->vvvv];
    for (int m = 0; m < c->rows[i->reg]; m++)
        for (int k = 0; k < c->colsb[i->rm] / 4; k++)
            for (int n = 0; n < c->colsb[i->reg] / 4; n++) {
                uint32_t sum;
                memcpy(&sum, &total->row[m][4 * n], 4);
                for (int j = 0; j < 4; j++) {
                    const uint8_t u = a->row[m][4 * k + j], v = b->row[k][4 * n + j];
                    sum += (uint32_t)((left ? (int8_t)u : u) * (right ? (int8_t)v : v));
                }
                memcpy(&total->row[m][4 * n], &sum, 4);
            }
}

static float flushed(float value) { return fpclassify(value) == FP_SUBNORMAL ? copysignf(0.0f, value) : value; }

static float bfloat16(const uint8_t *at) {
    uint16_t half;
    memcpy(&half, at, 2);
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, 4);
    return flushed(value);
}

/* Even and odd elements of a row have sums of their own, from zero, one rounding a product; they meet at the end. */
static void dot_bfloat16(struct state *s, const struct instruction *i) {
    const struct config *c = &s->config;
    struct tile *total = &s->tile[i->reg];
    const struct tile *a = &s->tile[i->rm], *b = &s->tile[i->vvvv];
    for (int m = 0; m < c->rows[i->reg]; m++) {
        float sums[ROW_BYTES / 4][2] = {{0}};
        for (int k = 0; k < c->colsb[i->rm] / 4; k++)
            for (int n = 0; n < c->colsb[i->reg] / 4; n++)
                for (int j = 0; j < 2; j++)
                    sums[n][j] = flushed(fmaf(bfloat16(&a->row[m][4 * k + 2 * j]), bfloat16(&b->row[k][4 * n + 2 * j]),
                                              sums[n][j]));
        for (int n = 0; n < c->colsb[i->reg] / 4; n++) {
            float before;
            memcpy(&before, &total->row[m][4 * n], 4);
            const float pair = flushed(sums[n][0] + sums[n][1]), after = flushed(flushed(before) + pair);
            memcpy(&total->row[m][4 * n], &after, 4);
        }
    }
}

static int multiply(struct state *s, const struct instruction *i) {
    const struct config *c = &s->config;
    const unsigned total = i->reg, a = i->rm, b = i->vvvv;
    if (i->mod != 3 || total >= TILES || a >= TILES || b >= TILES || total == a || total == b || a == b) return 0;
    if (c->colsb[total] % 4 || c->colsb[a] % 4 || c->colsb[b] % 4) return 0;
    if (c->rows[total] != c->rows[a] || c->colsb[total] != c->colsb[b] || c->colsb[a] / 4 != c->rows[b]) return 0;
    if (!c->rows[total] || !c->rows[b]) return 0;
    if (i->opcode == 0x5C) {
        if (i->prefix != 2) return 0;
        dot_bfloat16(s, i);                                               /* TDPBF16PS */
    } else {                                                              /* TDPBUUD, BUSD, BSUD, BSSD by prefix */
        dot_bytes(s, i, i->prefix >= 2, i->prefix & 1);
    }
    return 1;
}

/* Rows beyond the tile's, and bytes beyond a row's, become zero. */
static int move_rows(struct state *s, const struct instruction *i, int is_store) {
    if (i->mod == 3 || !i->has_sib || i->reg >= TILES || i->vvvv) return 0;
    struct config *c = &s->config;
    const int rows = c->rows[i->reg], bytes = c->colsb[i->reg];
    if (!rows) return 0;
    struct tile *tile = &s->tile[i->reg];
    for (int row = c->start_row; row < rows; row++) {
        uint8_t *memory = (uint8_t *)(i->base + row * i->stride);
        if (is_store) {
            memcpy(memory, tile->row[row], bytes);
        } else {
            memcpy(tile->row[row], memory, bytes);
            memset(tile->row[row] + bytes, 0, ROW_BYTES - bytes);
        }
    }
    if (!is_store) memset(tile->row[rows], 0, (MAX_ROWS - rows) * ROW_BYTES);
    c->start_row = 0;
    return 1;
}

static int configure(struct state *s, const struct instruction *i) {
    if (i->vvvv) return 0;
    if (i->mod == 3) {
        if (i->prefix == 0 && i->reg == 0 && i->rm == 0) {                /* TILERELEASE */
            memset(s, 0, sizeof *s);
            return 1;
        }
        if (i->prefix != 3 || i->rm != 0 || i->reg >= TILES || !s->config.rows[i->reg]) return 0;
        memset(&s->tile[i->reg], 0, sizeof s->tile[i->reg]);              /* TILEZERO */
        s->config.start_row = 0;
        return 1;
    }
    if (i->reg != 0) return 0;
    if (i->prefix == 0) return load_config(s, i);                         /* LDTILECFG */
    if (i->prefix != 1) return 0;
    memcpy((void *)(i->base + i->stride), &s->config, sizeof s->config);  /* STTILECFG */
    return 1;
}

static int execute(struct state *s, const struct instruction *i) {
    if (i->opcode == 0x49) return configure(s, i);
    if (s->config.palette != 1) return 0;
    switch (i->opcode) {
    case 0x4B: return i->prefix != 0 && move_rows(s, i, i->prefix == 2);
    case 0x5C:
    case 0x5E: return multiply(s, i);
    default: return 0;
    }
}

/* ------------------------------------------------------------------ handler */

static void handle(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    struct instruction i;
    if (decode(registers, &i)) {
        if (!mine) {
            void *page = mmap(0, sizeof *mine, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (page != MAP_FAILED) mine = page;
        }
        if (mine && execute(mine, &i)) {
            registers[REG_RIP] += i.length;
            __atomic_add_fetch(&executed, 1, __ATOMIC_RELAXED);
            return;
        }
    }
    (void)number, (void)info;
    sigaction(SIGILL, &before, 0);   /* back to the same instruction, with whoever handled it before */
}

int amx_install(void) {
    struct sigaction action = {0};
    action.sa_sigaction = handle;
    action.sa_flags = SA_SIGINFO;
    return sigaction(SIGILL, &action, &before);
}

int amx_uninstall(void) { return sigaction(SIGILL, &before, 0); }
