"""The correctness gate: no kernel is timed before its results are right.

Each run starts from a poisoned output, so that elements a kernel does not write are wrong: NaN, or integers that differ
from run to run. Two runs in a row also catch state left behind in scratch memory; canaries around the output catch
writes beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import numpy as np

from fettle.backends.api import LoadedKernel, Outcome
from fettle.graph.operators import Reference
from fettle.graph.tensors import TensorSpec

_RUNS = 2
_CANARY = 4096
"""Bytes watched on either side of the output."""
_POISON = 0xFF
"""Every float format of ours reads bytes 0xFF as NaN."""
_OTHER_POISON = 0x5A
"""For integers in every second run: what nobody wrote cannot be right in both."""
_CHUNK = 1 << 16
"""Elements compared at a time, so that temporaries stay in cache."""


@attrs.frozen
class Verdict:
    """How results compare with the reference.

    Attributes:
        outcome: OK, WRONG_RESULT or RUN_ERROR.
        max_error: largest ``|kernel - reference|``, infinite where a result is NaN; None if nothing was computed.
        error_ratio: largest ``|kernel - reference| / tolerance``.
        message: what is wrong, for people.
    """

    outcome: Outcome
    max_error: float | None = None
    error_ratio: float | None = None
    message: str = ""

    @property
    def ok(self) -> bool:
        return self.outcome is Outcome.OK


class GuardedOutput:
    """An output array, 64-byte aligned, between two canaries.

    Args:
        decode: the numbers the array stands for (:meth:`fettle.graph.workload.Workload.decode`); None for its elements.
    """

    def __init__(self, result: TensorSpec, decode: Callable[[np.ndarray], np.ndarray] | None = None) -> None:
        dtype = result.format.dtype
        size = result.size * dtype.itemsize
        self._raw = np.empty(size + 2 * _CANARY + 64, np.uint8)
        start = _CANARY + -(self._raw.ctypes.data + _CANARY) % 64
        self._bytes = self._raw[start : start + size]
        self._canaries = (self._raw[:start], self._raw[start + size :])
        self.array: np.ndarray = self._bytes.view(dtype).reshape(result.shape)
        self._decode = decode
        self._poison = _POISON

    def poison(self, run: int = 1) -> None:
        """Fill output and canaries before a run; runs are counted from 1."""
        self._poison = _OTHER_POISON if self.array.dtype.kind in "iu" and run % 2 == 0 else _POISON
        self._raw.fill(self._poison)

    @property
    def numbers(self) -> np.ndarray:
        """What the reference is compared with."""
        return self.array if self._decode is None else self._decode(self.array)

    @property
    def intact(self) -> bool:
        """Nobody wrote beside the output since it was poisoned."""
        return all(bool((canary == self._poison).all()) for canary in self._canaries)


def verify(
    kernel: LoadedKernel,
    inputs: Sequence[np.ndarray],
    packed: Sequence[np.ndarray],
    output: GuardedOutput,
    reference: Reference,
) -> Verdict:
    """Run a kernel twice on a poisoned output and compare each result with the reference."""
    verdicts = []
    for number in range(1, _RUNS + 1):
        output.poison(number)
        try:
            kernel.run(inputs, packed, output.array)
        except Exception as error:
            return Verdict(Outcome.RUN_ERROR, message=f"run {number} raised {type(error).__name__}: {error}")
        verdict = check(output, reference, f"run {number}")
        if not verdict.ok:
            return verdict
        verdicts.append(verdict)
    return max(verdicts, key=lambda v: v.error_ratio or 0.0)


def check(output: GuardedOutput, reference: Reference, when: str) -> Verdict:
    """Compare an output, as it is, with the reference."""
    if not output.intact:
        return Verdict(Outcome.WRONG_RESULT, message=f"{when}: the kernel wrote outside its output")
    numbers = output.numbers
    max_error, error_ratio, wrong, first = compare(numbers, reference)
    if not wrong:
        return Verdict(Outcome.OK, max_error, error_ratio)
    where = tuple(int(i) for i in np.unravel_index(first, numbers.shape))
    message = (
        f"{when}: {wrong} of {numbers.size} elements are beyond the tolerance, first {list(where)}: "
        f"{float(numbers[where])!r} instead of {float(reference.expected[where])!r} "
        f"± {float(reference.tolerance[where]):.3g}"
    )
    return Verdict(Outcome.WRONG_RESULT, max_error, error_ratio, message)


def compare(result: np.ndarray, reference: Reference) -> tuple[float, float, int, int]:
    """(largest error, largest error / tolerance, elements beyond the tolerance, flat index of the first such).

    A NaN counts as an infinite error. The index is -1 if there is none.
    """
    results, expected = result.reshape(-1), reference.expected.reshape(-1)
    tolerance = reference.tolerance.reshape(-1)
    max_error = error_ratio = 0.0
    wrong, first = 0, -1
    for start in range(0, results.size, _CHUNK):
        part = slice(start, start + _CHUNK)
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            error = np.abs(results[part].astype(np.float64) - expected[part])
            error[np.isnan(error)] = np.inf
            ratio = np.where(error > 0.0, error / tolerance[part], 0.0)
        beyond = ~(error <= tolerance[part])
        if beyond.any():
            first = start + int(beyond.argmax()) if first < 0 else first
            wrong += int(beyond.sum())
        max_error = max(max_error, float(error.max()))
        error_ratio = max(error_ratio, float(ratio.max()))
    return max_error, error_ratio, wrong, first
