"""Sums of four products of bytes in every 32-bit lane, of unsigned codes and signed weights::

vnni    vpdpbusd
pairs   two vpmaddwd of 16-bit pairs, the bytes at even and those at odd places (x86 without the above)
plain   four products of 32 bits
"""

from __future__ import annotations

from fettle.backends.cpu.gemv.integer import dot
from fettle.backends.cpu.gemv.words import Expr, T, constant, intrinsic

_PAIRS = {
    16: "llvm.x86.avx512.pmaddw.d.512",
    8: "llvm.x86.avx2.pmadd.wd",
    4: "llvm.x86.sse2.pmadd.wd",
}
"""Sums of two products of neighbouring 16-bit numbers, by lanes of the result."""

_EVEN = 0x00FF00FF
"""The bytes at even places of a word."""


def add_products(sums: Expr, codes: Expr, weights: Expr, lanes: int, how: str) -> Expr:
    """``sums`` and, in every lane, the four products of a word of codes with one of weights.

    No product or sum is cut.

    Args:
        codes: unsigned bytes as words, a vector of int32.
        weights: signed bytes, likewise.
        how: ``vnni``, ``pairs`` or ``plain``.
    """
    if how == "vnni":
        return dot(sums, codes, T.reinterpret(f"int8x{4 * lanes}", weights), lanes)
    if how == "pairs":
        for odd in (False, True):
            products = _unsigned_pairs(codes, odd, lanes), _signed_pairs(weights, odd, lanes)
            sums = sums + intrinsic(f"int32x{lanes}", _PAIRS[lanes], *products)
        return sums
    for byte in range(4):
        code = T.bitwise_and(T.shift_right(codes, constant(8 * byte, "int32", lanes)), constant(255, "int32", lanes))
        high = T.shift_left(weights, constant(24 - 8 * byte, "int32", lanes))
        sums = sums + code * T.shift_right(high, constant(24, "int32", lanes))
    return sums


def _unsigned_pairs(codes: Expr, odd: bool, lanes: int) -> Expr:
    words = T.reinterpret(f"uint32x{lanes}", codes)
    if odd:
        words = T.shift_right(words, constant(8, "uint32", lanes))
    return T.reinterpret(f"int16x{2 * lanes}", T.bitwise_and(words, constant(_EVEN, "uint32", lanes)))


def _signed_pairs(weights: Expr, odd: bool, lanes: int) -> Expr:
    halves = T.reinterpret(f"int16x{2 * lanes}", weights)
    eight = constant(8, "int16", 2 * lanes)
    return T.shift_right(halves if odd else T.shift_left(halves, eight), eight)
