"""``y[m,n] = Σ_k x[m,k] · W[n,k]`` with weights of 1 … 8 bits: one kernel for every width, format and variant.

A weight's codes are cut along K into blocks of ``block_k = values · KS``. Value j of row r of a block is ``k = block ·
block_k + j · KS + r``; the values of one n and r lie in containers side by side, value j from bit ``j · bits`` on. So
every shift is known when the kernel is compiled, and the activations that meet value j are contiguous. A weight of two
planes (6 = 4 + 2 bits, 3 = 2 + 1) keeps the low and the high bits of its codes apart, each plane packed so. Layouts:
:mod:`fettle.backends.triton.lowbit.layouts`. Constants are attributes of ``C``:
:mod:`fettle.backends.triton.lowbit.constants`.
"""

import triton
import triton.language as tl

from fettle.backends.triton.templates import converted, halfwords
from fettle.backends.triton.templates.codes import PTX
from fettle.backends.triton.templates.launches import let_next_begin, wait_for_previous
from fettle.backends.triton.templates.tiles import along, origin


@triton.jit
def product(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile, first, last, M,
            C: tl.constexpr):  # fmt: skip
    """The blocks first … last-1 of K of one tile of the result, f32: [block_m, block_n], or transposed if swapped."""
    if C.how >= PTX:
        acc = halfwords.product(x_ptr, low_ptr, scale_ptr, zero_ptr, tensor_ptr, tile, first, last, M, C)
    else:
        acc = converted.product(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile, first,
                                last, M, C)  # fmt: skip
    return acc


@triton.jit
def matmul(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, part_ptr, count_ptr, out_ptr, M,
           C: tl.constexpr):  # fmt: skip
    """``out[M, N]``: see :func:`run`."""
    run(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, part_ptr, count_ptr, out_ptr,
        (out_ptr,), M, C, unchanged)  # fmt: skip


@triton.jit
def run(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, part_ptr, count_ptr, out_ptr, others, M,
        C: tl.constexpr, FINISH: tl.constexpr):  # fmt: skip
    """One program: a tile of part ``pid_1`` of the sum, or, with a share > 0, so many blocks of one tile after another.

    A whole sum is stored in ``out[M, N]``, a part of one in ``part[parts, M, N]``, a share of blocks (stream-K,
    2301.03598) is added into a zeroed ``part[M, N]``. ``last``: the program that is last of a tile's adds its parts, in
    order, and leaves ``count[tiles]`` zero, as it was. Whole sums go through FINISH, which may read ``others``, before
    they are stored. Planes of a binary-coded weight lie one behind another along K, as
    :mod:`fettle.backends.triton.lowbit.stacking` has it.
    """
    BLOCKS: tl.constexpr = C.k // C.block_k * C.stack
    if C.releases:
        let_next_begin()
    if C.awaits:
        wait_for_previous()
    if C.share == 0:
        tile = tl.program_id(0)
        part = tl.program_id(1)
        acc = product(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile,
                      part * BLOCKS // C.parts, (part + 1) * BLOCKS // C.parts, M, C)  # fmt: skip
        if C.parts == 1:
            store_finished(acc, out_ptr, others, tile, M, C, FINISH)
        else:
            store(acc, part_ptr + part * M * C.n, tile, M, C)
        if C.last:
            tl.debug_barrier()  # all threads of the block have stored before one says so
            arrived = tl.atomic_add(count_ptr + tile, 1, sem="acq_rel")
            if arrived == C.parts - 1:
                tl.store(count_ptr + tile, 0)
                at, mask = places(tile, M, C)
                total = tl.zeros(acc.shape, tl.float32)
                for other in range(C.parts):
                    total += tl.load(part_ptr + other * M * C.n + at, mask=mask, other=0.0, cache_modifier=".cg")
                store_finished(total, out_ptr, others, tile, M, C, FINISH)
    else:
        at = tl.program_id(0) * C.share
        end = min(at + C.share, tl.cdiv(M, C.block_m) * tl.cdiv(C.n, C.block_n) * BLOCKS)
        while at < end:
            tile = at // BLOCKS
            first = at % BLOCKS
            last = min(first + end - at, BLOCKS)
            acc = product(x_ptr, x_scale_ptr, low_ptr, high_ptr, scale_ptr, zero_ptr, tensor_ptr, tile, first, last, M,
                          C)  # fmt: skip
            add(acc, part_ptr, tile, M, C)
            at += last - first


@triton.jit
def places(tile, M, C: tl.constexpr):
    """Where a tile of the result lies in ``[M, N]``, and what of it is inside."""
    m, n = origin(tile, C)
    rm = m + tl.arange(0, C.block_m)
    rn = n + tl.arange(0, C.block_n)
    at = along(rm, not C.swap) * C.n + along(rn, C.swap)
    return at, along(rm < M, not C.swap) & along(rn < C.n, C.swap)


@triton.jit
def store_finished(acc, out_ptr, others, tile, M, C: tl.constexpr, FINISH: tl.constexpr):
    """Store a tile of the result after what is done to each of its elements."""
    at, mask = places(tile, M, C)
    _, n = origin(tile, C)
    columns = along(n + tl.arange(0, C.block_n), C.swap)
    store(FINISH(acc, others, at, mask, columns, C.n), out_ptr, tile, M, C)


@triton.jit
def unchanged(y, others, at, mask, columns, N: tl.constexpr):
    """No epilogue."""
    return y


@triton.jit
def store(acc, out_ptr, tile, M, C: tl.constexpr):
    """Store a tile of the result."""
    at, mask = places(tile, M, C)
    tl.store(out_ptr + at, acc.to(out_ptr.dtype.element_ty), mask=mask)


@triton.jit
def add(acc, out_ptr, tile, M, C: tl.constexpr):
    """Add a tile to what is there."""
    at, mask = places(tile, M, C)
    tl.atomic_add(out_ptr + at, acc, mask=mask, sem="relaxed")


@triton.jit
def quantise(x_ptr, code_ptr, scale_ptr, M, K: tl.constexpr, GROUP: tl.constexpr, BLOCK: tl.constexpr,
             RELEASES: tl.constexpr):  # fmt: skip
    """Activations [M, K] as int8 or fp8, one scale per row and GROUP of k, scales [groups, M]: x ≈ code · scale."""
    if RELEASES:
        let_next_begin()
    row = tl.program_id(0)
    group = tl.program_id(1)
    k = tl.arange(0, BLOCK)
    mask = (k < GROUP) & (group * GROUP + k < K)
    x = tl.load(x_ptr + row * K + group * GROUP + k, mask=mask, other=0.0).to(tl.float32)
    if code_ptr.dtype.element_ty == tl.int8:
        MOST: tl.constexpr = 127.0
    else:
        MOST: tl.constexpr = 448.0
    scale = tl.max(tl.abs(x), 0) / MOST
    code = x / tl.where(scale > 0.0, scale, 1.0)
    if code_ptr.dtype.element_ty == tl.int8:
        code = tl.floor(code + 0.5)
    tl.store(code_ptr + row * K + group * GROUP + k, code.to(code_ptr.dtype.element_ty), mask=mask)
    tl.store(scale_ptr + group * M + row, scale)
