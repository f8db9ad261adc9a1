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
def first_words(rn, rk, N: tl.constexpr, ROW: tl.constexpr, K_CONTIGUOUS: tl.constexpr, SWAP: tl.constexpr):
    """Where the first words of a block's runs lie, those of one n being ROW words if they are contiguous."""
    n = along(rn, SWAP)
    k = along(rk, not SWAP)
    if K_CONTIGUOUS:
        at = n * ROW + k
    else:
        at = k * N + n
    return at


@triton.jit
def load_x(x_ptr, rm, k, M, K: tl.constexpr, COUNT: tl.constexpr, SWAP: tl.constexpr):
    """``x[rm, k … k+COUNT-1]``, transposed if swapped."""
    rk = tl.arange(0, COUNT)
    if SWAP:
        x = tl.load(x_ptr + rm[None, :] * K + k + rk[:, None], mask=(rm < M)[None, :], other=0.0)
    else:
        x = tl.load(x_ptr + rm[:, None] * K + k + rk[None, :], mask=(rm < M)[:, None], other=0.0)
    return x


@triton.jit
def multiply(weight, x, total, SWAP: tl.constexpr):
    """``total`` plus the product, the weight being the left operand if swapped."""
    if SWAP:
        result = tl.dot(weight, x, total, out_dtype=total.dtype)
    else:
        result = tl.dot(x, weight, total, out_dtype=total.dtype)
    return result


@triton.jit
def zeros(BM: tl.constexpr, BN: tl.constexpr, SWAP: tl.constexpr, T: tl.constexpr = tl.float32):
    """Sums of a tile."""
    if SWAP:
        result = tl.zeros((BN, BM), T)
    else:
        result = tl.zeros((BM, BN), T)
    return result
