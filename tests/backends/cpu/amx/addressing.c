/* Tile instructions with memory operands that LLVM does not choose, and one that must fault; see test_addressing.py. */
#include <stdint.h>

/* Palette 1; tiles 0 … 3 have 16 rows of 64 bytes. */
static const struct { uint8_t head[16]; uint16_t colsb[16]; uint8_t rows[16]; } config = {
    {1}, {64, 64, 64, 64}, {16, 16, 16, 16}};

/* Four tiles to target: rows 64 bytes apart; from byte 100, 128 apart; all the same row; backwards from byte 2048. */
void forms(const uint8_t *source, uint8_t *target) {
    __asm__ volatile(
        "ldtilecfg %[config]\n\t"
        "mov %[source], %%r13\n\t"
        "mov %[source], %%r12\n\t"
        "mov $32, %%r14\n\t"
        "tileloadd (%%r13,%%r14,2), %%tmm0\n\t"
        "tileloadd 100(%%r12,%%r14,4), %%tmm1\n\t"
        "tileloadd (%%r12), %%tmm2\n\t"
        "neg %%r14\n\t"
        "tileloaddt1 2048(%%r13,%%r14,1), %%tmm3\n\t"
        "mov $64, %%r14\n\t"
        "mov %[target], %%r11\n\t"
        "tilestored %%tmm0, (%%r11,%%r14)\n\t"
        "tilestored %%tmm1, 1024(%%r11,%%r14)\n\t"
        "add $2112, %%r11\n\t"
        "tilestored %%tmm2, -64(%%r11,%%r14)\n\t"
        "tilestored %%tmm3, 960(%%r11,%%r14)\n\t"
        "tilerelease"
        :
        : [config] "m"(config), [source] "r"(source), [target] "r"(target)
        : "r11", "r12", "r13", "r14", "memory");
}

void unconfigured(void) { __asm__ volatile("tdpbssd %tmm2, %tmm1, %tmm0"); }
