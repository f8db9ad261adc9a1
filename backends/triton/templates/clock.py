"""Clocks of the multiprocessors."""

import triton
import triton.language as tl


@triton.jit
def read(out_ptr):
    """``out[program] = (number of the multiprocessor, its cycles, the GPU's nanoseconds)``, read one after another."""
    number, cycles, nanoseconds = tl.inline_asm_elementwise(
        "mov.u32 $0, %smid; mov.u64 $1, %clock64; mov.u64 $2, %globaltimer;",
        "=r,=l,=l", [], (tl.int32, tl.int64, tl.int64), False, 1,
    )  # fmt: skip
    at = out_ptr + 3 * tl.program_id(0)
    tl.store(at, number.to(tl.int64))
    tl.store(at + 1, cycles)
    tl.store(at + 2, nanoseconds)
