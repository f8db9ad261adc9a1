"""Every tile instruction, as LLVM encodes it, against NumPy. Where the machine lacks AMX this tests the emulator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from fettle.backends.api import DeviceText
from fettle.backends.cpu import CpuBackend, codegen, loader
from fettle.backends.cpu.amx.permission import permit
from fettle.backends.cpu.family import Lowered

ROWS, COLUMNS, DEPTH = 5, 7, 9
"""A product of tiles that fill no register: [5, 9 words] by [9, 7 columns]."""

SIGNS = {"bssd": (True, True), "bsud": (True, False), "busd": (False, True), "buud": (False, False)}


def run(emit: Callable[..., None], *arrays: np.ndarray) -> None:
    """Compile tile instructions on int32 arrays, and call them."""
    from tvm.script.ir_builder import IRBuilder

    from fettle.backends.cpu.gemv.words import T

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("tiles")
        emit(*(T.arg(f"p{i}", T.buffer((array.size,), "int32", align=4)) for i, array in enumerate(arrays)))
    device = CpuBackend().device(DeviceText.parse("cpu,isa=amx,threads=1"))
    payload, _ = codegen.compile(Lowered(builder.get()), device, loader.ENTRY)
    permit()
    loader.link(payload)[loader.ENTRY](*(array.reshape(-1) for array in arrays))


def product(kind: str, total: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """``total + a · b`` by one tile product; all as int32 words."""
    from fettle.backends.cpu.amx import words

    def emit(total_: Any, a_: Any, b_: Any, out: Any) -> None:
        words.configure([(ROWS, 4 * COLUMNS), (ROWS, 4 * DEPTH), (DEPTH, 4 * COLUMNS)])
        words.load(0, total_, 0, 4 * COLUMNS)
        words.load(1, a_, 0, 4 * DEPTH)
        words.load(2, b_, 0, 4 * COLUMNS)
        words.multiply(kind, 0, 1, 2)
        words.store(0, out, 0, 4 * COLUMNS)
        words.release()

    out = np.full((ROWS, COLUMNS), -1, np.int32)
    run(emit, total, a, b, out)
    return out


@pytest.mark.parametrize("kind", SIGNS)
def test_bytes_are_multiplied_with_their_signs_and_sums_wrap(kind: str) -> None:
    rng = np.random.default_rng(1)
    bytes_ = [
        rng.integers(0, 256, (rows, 4 * columns), np.uint8) for rows, columns in ((ROWS, DEPTH), (DEPTH, COLUMNS))
    ]
    total = rng.integers(-(2**31), 2**31, (ROWS, COLUMNS), np.int64).astype(np.int32)
    total[0] = 2**31 - 1
    a, b = (
        v.view(np.int8 if signed else np.uint8).astype(np.int64) for v, signed in zip(bytes_, SIGNS[kind], strict=True)
    )
    columns = b.reshape(DEPTH, COLUMNS, 4).transpose(0, 2, 1).reshape(4 * DEPTH, COLUMNS)
    expected = (total + a @ columns).astype(np.uint32).view(np.int32)
    np.testing.assert_array_equal(product(kind, total, *(v.view(np.int32) for v in bytes_)), expected)


def flushed(values: np.ndarray) -> np.ndarray:
    """float32 with denormals as zeros."""
    tiny = np.abs(values) < np.finfo(np.float32).tiny
    return np.where(tiny, np.copysign(np.float32(0), values), values).astype(np.float32)


def rounded(values: np.ndarray) -> np.ndarray:
    """float64 to float32, to nearest, denormals flushed."""
    return flushed(values.astype(np.float32))


def bfloat16_product(total: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The manual's order: even and odd k apart, each product rounded into its sum, then both, then the total.

    Products of bfloat16 are exact in float64; ``long double`` holds product + sum, so each step rounds once.
    """
    a, b = (flushed(v.astype(np.float32)).astype(np.longdouble) for v in (a, b))
    sums = np.zeros((ROWS, COLUMNS, 2), np.float32)
    for k in range(DEPTH):
        for parity in range(2):
            products = a[:, 2 * k + parity, None] * b[k, parity::2][None, :]
            sums[..., parity] = rounded(sums[..., parity] + products)
    return rounded(flushed(total) + rounded(sums[..., 0] + sums[..., 1]))


@pytest.mark.parametrize("scale", [1.0, 2.0**-126, 2.0**-60])
def test_bfloat16_sums_round_and_flush_in_the_manuals_order(scale: float) -> None:
    rng = np.random.default_rng(2)
    a = rng.standard_normal((ROWS, 2 * DEPTH)).astype(ml_dtypes.bfloat16)
    b = (rng.standard_normal((DEPTH, 2 * COLUMNS)) * scale * np.exp2(rng.integers(-6, 7, (1, 2 * COLUMNS)))).astype(
        ml_dtypes.bfloat16
    )
    total = (rng.standard_normal((ROWS, COLUMNS)) * scale).astype(np.float32)
    total[0, 0] = 1e-40
    result = product("bf16ps", total.view(np.int32), a.view(np.int32), b.view(np.int32)).view(np.float32)
    np.testing.assert_array_equal(result, bfloat16_product(total, a, b))


def test_infinities_and_nans_of_bfloat16_arrive() -> None:
    a = np.ones((ROWS, 2 * DEPTH), ml_dtypes.bfloat16)
    b = np.ones((DEPTH, 2 * COLUMNS), ml_dtypes.bfloat16)
    a[1, 3], a[2, 4] = np.inf, np.nan
    total = np.zeros((ROWS, COLUMNS), np.int32)
    result = product("bf16ps", total, a.view(np.int32), b.view(np.int32)).view(np.float32)
    assert (result[[0, 3, 4]] == 2 * DEPTH).all()
    assert np.isposinf(result[1]).all()
    assert np.isnan(result[2]).all()


def test_loads_stores_and_zeros_touch_the_configured_part_of_a_tile() -> None:
    from fettle.backends.cpu.amx import words

    def emit(source: Any, target: Any) -> None:
        words.configure([(3, 12), (16, 64), (3, 64)])
        words.load(0, source, 20, 80)  # rows of three words, 20 words apart, from word 20
        words._emit("tileloaddt164", *_operands(1, source, 0, 64))
        words.store(0, target, 0, 64)
        words.store(1, target, 100, 64)
        words.zero(2)
        words.store(2, target, 400, 64)
        words.release()

    def _operands(tile: int, buffer: Any, offset: int, stride: int) -> list[Any]:
        from fettle.backends.cpu.gemv.words import T

        return [T.int8(tile), T.address_of(buffer[offset]), T.int64(stride)]

    source = np.arange(1000, dtype=np.int32)
    target = np.full(500, -1, np.int32)
    expected = target.copy()
    for row in range(3):
        expected[16 * row : 16 * row + 3] = source[20 + 20 * row :][:3]
        expected[400 + 16 * row : 416 + 16 * row] = 0
    expected[100 : 100 + 256] = source[:256]
    run(emit, source, target)
    np.testing.assert_array_equal(target, expected)


def test_a_stored_configuration_is_the_loaded_one() -> None:
    from fettle.backends.cpu.amx import words
    from fettle.backends.cpu.gemv.words import T

    def emit(target: Any) -> None:
        words.configure([(3, 12), (16, 64)])
        words._emit("sttilecfg", T.address_of(target[0]))
        words.release()
        words._emit("sttilecfg", T.address_of(target[16]))

    target = np.full(32, -1, np.int32)
    run(emit, target)
    data = target.view(np.uint8)
    assert data[0] == 1
    assert list(data[16:64:2][:2]) == [12, 64]
    assert list(data[48:50]) == [3, 16]
    assert data.sum(dtype=int) == 1 + 12 + 64 + 3 + 16
