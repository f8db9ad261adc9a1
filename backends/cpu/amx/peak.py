"""The kernel that measures what tiles can multiply: products of tile registers only, each thread by itself."""

from __future__ import annotations

from typing import Any

import attrs

from fettle.backends.api import Device
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.amx import shapes

SUMS = shapes.TILES - 2
"""Independent tiles of sums; the other two are the operands."""


@attrs.frozen
class TilePeak:
    """One instruction repeated.

    Attributes:
        roof: the roof it measures.
        kind: of product, see :func:`fettle.backends.cpu.amx.words.multiply`.
        operations: arithmetic operations of one product of full tiles.
        word: four bytes of the operands, all elements one half or one.
    """

    roof: str
    kind: str
    operations: int
    word: int


def tile_peaks(device: Device) -> tuple[TilePeak, ...]:
    """The peaks of the device's tiles; none where it has no tiles."""
    usable, sums = cpu.features(device), shapes.ROWS * shapes.ROW_BYTES // 4
    candidates = {
        "amx-int8": TilePeak("peak:amx-i8", "bssd", 2 * sums * shapes.ROW_BYTES, 0x01010101),
        "amx-bf16": TilePeak("peak:amx-bf16", "bf16ps", 2 * sums * shapes.ROW_BYTES // 2, 0x3F003F00),
    }
    return tuple(peak for name, peak in candidates.items() if {"amx-tile", name} <= usable)


def tile_peak_kernel(peak: TilePeak, threads: int) -> Any:
    """``(seed[256], out[threads · SUMS · 256], steps)``, 32-bit words: ``steps`` products into each of ``SUMS`` tiles
    of zeros; ``seed`` is both operands."""
    from tvm.script.ir_builder import IRBuilder

    from fettle.backends.cpu.amx import words
    from fettle.backends.cpu.gemv.words import T, argument, parallel

    size = shapes.ROWS * shapes.ROW_BYTES // 4
    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("tile_peak")
        T.func_attr({"tirx.noalias": True})
        seed = argument("seed", (size,), "int32")
        out = argument("out", (threads * SUMS * size,), "int32")
        steps = T.arg("steps", T.int32())
        with parallel(threads) as thread:
            words.configure([(shapes.ROWS, shapes.ROW_BYTES)] * shapes.TILES)
            for tile in (SUMS, SUMS + 1):
                words.load(tile, seed, 0, shapes.ROW_BYTES)
            for tile in range(SUMS):
                words.zero(tile)
            with T.serial(0, steps):
                for tile in range(SUMS):
                    words.multiply(peak.kind, tile, SUMS, SUMS + 1)
            for tile in range(SUMS):
                words.store(tile, out, (thread * SUMS + tile) * size, shapes.ROW_BYTES)
            words.release()
    return builder.get()
