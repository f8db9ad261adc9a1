"""Sums whose parts several programs made."""

import triton
import triton.language as tl

from fettle.backends.triton.templates.launches import wait_for_previous


@triton.jit
def finish(part_ptr, out_ptr, COUNT: tl.constexpr, PARTS: tl.constexpr, BLOCK: tl.constexpr, AWAITS: tl.constexpr):
    """``out[i] = Σ_p part[p, i]`` for COUNT elements, in order of p: the same bits in every run."""
    if AWAITS:
        wait_for_previous()
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = at < COUNT
    total = tl.zeros((BLOCK,), part_ptr.dtype.element_ty)
    for part in tl.static_range(PARTS):
        total += tl.load(part_ptr + part * COUNT + at, mask=mask, other=0)
    tl.store(out_ptr + at, total.to(out_ptr.dtype.element_ty), mask=mask)
