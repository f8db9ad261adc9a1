from __future__ import annotations

import mmap
import os
from pathlib import Path

import numpy as np
import pytest

from fettle.backends.host.operands import MappedOperands, SharedOperands, split_constants
from fettle.backends.host.protected import protected
from fettle.graph import data
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload

TEXTS = [
    "matmul m=3 n=40 k=72 act=f32 weight=u3:32:zp",
    "matmul m=1 n=16 k=64 act=bf16 weight=tern:row/f32",
    "matmul m=2 n=16 k=64 act=f16 rhs=f16",
    "matmul batch=2 m=3 n=5 k=7 act=bf16 rhs=bf16",
    "softmax rows=3 cols=11 act=bf16",
    "elementwise shape=2x3x5 act=f32 expr=silu(x0)*x1",
]


@pytest.mark.parametrize("text", TEXTS)
def test_workers_see_what_the_host_generated(text: str) -> None:
    workload = Workload.parse(text)
    shared = SharedOperands(workload, seed=7)
    mapped = MappedOperands(shared.descriptor, shared.manifest)
    shared.close()  # a mapping outlives the host's descriptor
    expected = data.operands(workload, 7)
    for ours, theirs in zip(expected, mapped.operands, strict=True):
        if isinstance(ours, QuantizedWeight):
            assert isinstance(theirs, QuantizedWeight)
            assert theirs.format == ours.format
            assert_same(theirs.codes, ours.codes)
            assert_same(theirs.scales, ours.scales)
            assert (theirs.zero_points is None) == (ours.zero_points is None)
            if ours.zero_points is not None and theirs.zero_points is not None:
                assert_same(theirs.zero_points, ours.zero_points)
        else:
            assert isinstance(theirs, np.ndarray)
            assert_same(theirs, ours)
    reference = data.reference(workload, expected)
    assert_same(mapped.reference.expected, reference.expected)
    assert_same(mapped.reference.tolerance, reference.tolerance)


def assert_same(a: np.ndarray, b: np.ndarray) -> None:
    assert a.dtype == b.dtype
    assert a.shape == b.shape
    assert a.tobytes() == b.tobytes()
    assert a.flags.c_contiguous
    assert not a.flags.writeable


def test_the_memory_is_sealed_and_nameless() -> None:
    before = set(os.listdir("/dev/shm"))
    shared = SharedOperands(Workload.parse(TEXTS[0]), 0)
    assert set(os.listdir("/dev/shm")) <= before
    with pytest.raises(PermissionError):
        os.pwrite(shared.descriptor, b"x", 0)
    with pytest.raises(PermissionError):
        mmap.mmap(shared.descriptor, shared.manifest.size, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    shared.close()
    shared.close()


def test_constants_are_told_from_inputs() -> None:
    workload = Workload.parse(TEXTS[0])
    operands = data.operands(workload, 0)
    inputs, constants = split_constants(workload, operands)
    assert [a.shape for a in inputs] == [(3, 72)]
    assert constants == [operands[1]]


@pytest.mark.parametrize("shape", [(3, 5), (2048, 1024), (1,)])
def test_a_protected_array_is_an_equal_copy_that_cannot_be_written(shape: tuple[int, ...]) -> None:
    original = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    copy = protected(original.T)
    np.testing.assert_array_equal(copy, original.T)
    assert copy.flags.c_contiguous
    with pytest.raises(ValueError, match="read-only"):
        copy[0] = 1
    page = copy.ctypes.data // mmap.PAGESIZE * mmap.PAGESIZE
    line = next(
        line
        for line in Path("/proc/self/maps").read_text().splitlines()
        if int(line.split("-")[0], 16) <= page < int(line.split("-")[1].split()[0], 16)
    )
    assert line.split()[1].startswith("r--")
