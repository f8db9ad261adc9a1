"""What repairs Triton's interpreter: bf16 as an independent library has it, and inline PTX as the manual has it."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.triton.interpreter.bf16 import narrow, widen
from fettle.backends.triton.interpreter.ptx import execute
from fettle.graph.errors import Unsupported

WORDS = st.integers(0, 2**32 - 1)


def run(line: str, *inputs: int) -> int:
    (result,) = execute(line, 1, [np.array([word], np.uint32) for word in inputs])
    return int(result[0])


def test_every_bf16_is_widened_as_elsewhere() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    np.testing.assert_array_equal(widen(bits), bits.view(ml_dtypes.bfloat16).astype(np.float32))


@given(st.lists(st.floats(width=32), min_size=1))
def test_floats_are_narrowed_as_elsewhere(values: list[float]) -> None:
    floats = np.array(values, np.float32)
    with np.errstate(invalid="ignore"):
        expected = floats.astype(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(widen(narrow(floats)), expected)


@given(WORDS, WORDS, WORDS)
def test_lop3_is_its_truth_table(a: int, b: int, c: int) -> None:
    assert run("lop3.b32 $0, $1, $2, $3, 0xea;", a, b, c) == (a & b) | c
    assert run("lop3.b32 $0, $1, $2, $3, 0x96;", a, b, c) == a ^ b ^ c
    assert run("lop3.b32 $0, $1, $2, $3, 0x40;", a, b, c) == a & b & ~c & 0xFFFFFFFF


@given(WORDS, WORDS)
def test_prmt_picks_bytes(a: int, b: int) -> None:
    pool = (a | b << 32).to_bytes(8, "little")
    expected = int.from_bytes(bytes(pool[i] for i in (0, 1, 4, 5)), "little")
    assert run("prmt.b32 $0, $1, $2, 0x5410;", a, b) == expected


def test_registers_and_immediates() -> None:
    assembly = "{\n.reg .b32 t;\nshr.b32 t, $1, 4;\nand.b32 $0, t, 0x0f;\n}"
    assert run(assembly, 0xABC) == 0xB


@pytest.mark.parametrize("line", ["mad.lo.s32 $0, $1, $1, $1;", "prmt.b32 $0, $1, $1, 0x8888;"])
def test_what_the_emulator_lacks_is_refused(line: str) -> None:
    with pytest.raises(Unsupported, match="emulator"):
        run(line, 1)
