"""Tiles of a product: ``[m, n]`` with the weight on the right or, swapped, ``[n, m]`` with it on the left."""

import triton
import triton.language as tl


@triton.jit
def along(vector, SWAP: tl.constexpr):
    """A vector over n as a column of a tile [n, …], or a row of a tile […, n]."""
    if SWAP:
        result = vector[:, None]
    else:
        result = vector[None, :]
    return result


@triton.jit
def origin(tile, C: tl.constexpr):
    """The first row and the first column of a tile; tiles go along N first."""
    TILES_N: tl.constexpr = (C.n + C.block_n - 1) // C.block_n
    return tile // TILES_N * C.block_m, tile % TILES_N * C.block_n


@triton.jit
def first_words(rn, rk, ROW: tl.constexpr, C: tl.constexpr):
    """Where the first words of a block's runs lie, those of one n being ROW words if they are contiguous."""
    n = along(rn, C.swap)
    k = along(rk, not C.swap)
    if C.k_contiguous:
        at = n * ROW + k
    else:
        at = k * C.n + n
    return at


@triton.jit
def load_x(x_ptr, rm, k, M, COUNT: tl.constexpr, C: tl.constexpr):
    """``x[rm, k … k+COUNT-1]``, transposed if swapped."""
    at = x_ptr + along(rm, not C.swap) * C.k + k + along(tl.arange(0, COUNT), C.swap)
    if C.whole_rows:
        x = tl.load(at)
    else:
        x = tl.load(at, mask=along(rm < M, not C.swap), other=0.0)
    return x


@triton.jit
def multiply(weight, x, total, C: tl.constexpr):
    """``total`` plus the product, the weight being the left operand if swapped."""
    if C.swap:
        result = tl.dot(weight, x, total, out_dtype=total.dtype)
    else:
        result = tl.dot(x, weight, total, out_dtype=total.dtype)
    return result


@triton.jit
def zeros(T: tl.constexpr, C: tl.constexpr):
    """Sums of a tile."""
    if C.swap:
        result = tl.zeros((C.block_n, C.block_m), T)
    else:
        result = tl.zeros((C.block_m, C.block_n), T)
    return result
