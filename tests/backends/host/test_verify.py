from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence

import attrs
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.backends.api import Outcome
from fettle.backends.host.verify import GuardedOutput, Verdict, compare, verify
from fettle.graph.formats import Format
from fettle.graph.operators import Reference
from fettle.graph.tensors import TensorSpec

values = st.one_of(st.floats(-10, 10), st.sampled_from([np.nan, np.inf, -np.inf]))


@given(st.lists(st.tuples(values, st.floats(-10, 10), st.floats(0, 3)), min_size=1, max_size=50))
def test_comparison_agrees_with_elementwise_arithmetic(rows: list[tuple[float, float, float]]) -> None:
    result, expected, tolerance = (np.array(column) for column in zip(*rows, strict=True))
    errors = [np.inf if np.isnan(r) else abs(r - e) for r, e, _ in rows]
    beyond = [error > t for error, (_, _, t) in zip(errors, rows, strict=True)]
    with np.errstate(divide="ignore", over="ignore"):
        ratios = [np.float64(e) / t if e else 0.0 for e, (_, _, t) in zip(errors, rows, strict=True)]
    max_error, error_ratio, wrong, first = compare(result, Reference(expected, tolerance))
    assert max_error == max(errors)
    assert error_ratio == max(ratios)
    assert wrong == sum(beyond)
    assert first == (beyond.index(True) if any(beyond) else -1)


def test_comparison_looks_at_every_chunk() -> None:
    size = 3 * (1 << 16) + 5
    expected = np.zeros(size)
    result = expected.copy()
    result[[70_000, size - 1]] = 2.0, 3.0
    assert compare(result, Reference(expected, np.ones(size))) == (3.0, 3.0, 2, 70_000)


@attrs.frozen
class Kernel:
    """Runs a function on its output."""

    body: Callable[[np.ndarray], None]

    def pack(self, constants: Sequence[object]) -> tuple[np.ndarray, ...]:
        return ()

    def run(self, inputs: Sequence[np.ndarray], packed: Sequence[np.ndarray], out: np.ndarray) -> None:
        self.body(out)


def verdict(kind: str, body: Callable[[np.ndarray], None]) -> Verdict:
    output = GuardedOutput(TensorSpec("y", (4, 5), Format(kind)))
    reference = Reference(np.full((4, 5), 3.0), np.full((4, 5), 0.01))
    return verify(Kernel(body), [], [], output, reference)


@given(st.sampled_from(["f32", "bf16", "f16", "i8"]), st.integers(0, 19))
def test_an_element_left_unwritten_is_found_in_every_format(kind: str, left: int) -> None:
    def body(out: np.ndarray) -> None:
        flat = out.reshape(-1)
        flat[:left] = 3
        flat[left + 1 :] = 3

    assert verdict(kind, body).outcome is Outcome.WRONG_RESULT
    assert verdict(kind, lambda out: out.fill(3)) == Verdict(Outcome.OK, 0.0, 0.0)


def test_codes_left_unwritten_are_found_whatever_they_should_be() -> None:
    output = GuardedOutput(TensorSpec("y", (256,), Format("u8")))
    every = Reference(np.arange(256.0), np.full(256, 0.5))
    for code in range(256):

        def write_all_but_one(out: np.ndarray, left: int = code) -> None:
            out[np.arange(256) != left] = np.delete(np.arange(256), left)

        assert verify(Kernel(write_all_but_one), [], [], output, every).outcome is Outcome.WRONG_RESULT


def test_the_output_is_aligned_and_of_the_right_type() -> None:
    output = GuardedOutput(TensorSpec("y", (3, 7), Format("bf16")))
    assert output.array.ctypes.data % 64 == 0
    assert output.array.dtype == Format("bf16").dtype
    assert output.array.shape == (3, 7)


@pytest.mark.parametrize("beside", [-4, 4 * 5 * 4])
def test_a_write_beside_the_output_is_found(beside: int) -> None:
    def body(out: np.ndarray) -> None:
        out.fill(3)
        ctypes.memset(out.ctypes.data + beside, 0, 4)

    assert "outside its output" in verdict("f32", body).message


def test_the_message_names_the_first_wrong_element() -> None:
    def body(out: np.ndarray) -> None:
        out.fill(3)
        out[2, 1:] = 4

    found = verdict("f32", body)
    assert found.message.startswith(
        "run 1: 4 of 20 elements are beyond the tolerance, first [2, 1]: 4.0 instead of 3.0"
    )
    assert found.max_error == 1.0
