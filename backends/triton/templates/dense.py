"""``y[b] = x[b] · w[b]`` of 16-bit or 8-bit floats, accumulated in f32, or of 8-bit integers, in i32."""

import triton
import triton.language as tl


@triton.jit
def product(x_ptr, w_ptr, M, N: tl.constexpr, K: tl.constexpr, W_BATCH: tl.constexpr, W_K: tl.constexpr,
            W_N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PARTS: tl.constexpr,
            BAND: tl.constexpr):  # fmt: skip
    """One tile [BM, BN] of part ``pid_1`` of the sum over K of batch ``pid_2``, its places in ``[PARTS, batch, M, N]``,
    which of them are inside, and its columns.

    Tiles are taken in bands of BAND tile rows, so that programs which run together share columns of w in the cache.
    W_BATCH, W_K and W_N are the distances of neighbours in w: one of the latter is 1.
    """
    TILES_N: tl.constexpr = (N + BN - 1) // BN
    BLOCKS: tl.constexpr = (K + BK - 1) // BK
    PER: tl.constexpr = (BLOCKS + PARTS - 1) // PARTS
    pid = tl.program_id(0)
    part = tl.program_id(1)
    batch = tl.program_id(2).to(tl.int64)
    tiles_m = tl.cdiv(M, BM)
    band = pid // (BAND * TILES_N)
    height = min(tiles_m - band * BAND, BAND)
    tile_m = band * BAND + pid % (BAND * TILES_N) % height
    tile_n = pid % (BAND * TILES_N) // height
    rm = tile_m * BM + tl.arange(0, BM)
    rn = tile_n * BN + tl.arange(0, BN)
    rk = tl.arange(0, BK)
    x_at = x_ptr + batch * M * K + rm[:, None] * K + rk[None, :]
    w_at = w_ptr + batch * W_BATCH + rk[:, None] * W_K + rn[None, :] * W_N
    acc = tl.zeros((BM, BN), tl.int32 if x_ptr.dtype.element_ty == tl.int8 else tl.float32)
    for block in range(part * PER, min(part * PER + PER, BLOCKS)):
        k = block * BK
        x_mask = (rm < M)[:, None]
        w_mask = (rn < N)[None, :]
        if K % BK != 0:
            x_mask = x_mask & (k + rk < K)[None, :]
            w_mask = w_mask & (k + rk < K)[:, None]
        x = tl.load(x_at + k, mask=x_mask, other=0.0)
        w = tl.load(w_at + k * W_K, mask=w_mask, other=0.0)
        acc = tl.dot(x, w, acc, out_dtype=acc.dtype)
    at = (part * tl.num_programs(2) + batch) * M * N + rm[:, None] * N + rn[None, :]
    return acc, at, (rm < M)[:, None] & (rn < N)[None, :], rn


@triton.jit
def matmul(x_ptr, w_ptr, out_ptr, M, N: tl.constexpr, K: tl.constexpr, W_BATCH: tl.constexpr, W_K: tl.constexpr,
           W_N: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PARTS: tl.constexpr,
           BAND: tl.constexpr):  # fmt: skip
    """``out[PARTS, batch, M, N]``."""
    acc, at, mask, _ = product(x_ptr, w_ptr, M, N, K, W_BATCH, W_K, W_N, BM, BN, BK, PARTS, BAND)
    tl.store(out_ptr + at, acc.to(out_ptr.dtype.element_ty), mask=mask)
