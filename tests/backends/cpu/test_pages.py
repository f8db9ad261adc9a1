"""Copies in huge pages: the same values, at a huge page, with the advice recorded by the kernel."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np
import pytest

from fettle.backends.api import DeviceText, Schedule
from fettle.backends.cpu import CpuBackend
from fettle.backends.cpu.pages import HUGE, in_huge_pages
from fettle.graph import data
from fettle.graph.workload import Workload

SMAPS = Path("/proc/self/smaps")


def flags(address: int) -> list[str]:
    """What Linux says of the mapping an address is in (``VmFlags``)."""
    inside = False
    for line in SMAPS.read_text().splitlines():
        if bounds := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(bounds[1], 16) <= address < int(bounds[2], 16)
        elif inside and line.startswith("VmFlags:"):
            return line.split()[1:]
    raise AssertionError(f"no mapping holds {address:#x}")


@pytest.mark.parametrize("array", [np.arange(7, dtype=np.float16), np.arange(60, dtype=np.uint8).reshape(3, 20)])
def test_a_copy_holds_the_same_from_a_huge_page_on(array: np.ndarray) -> None:
    copy = in_huge_pages(array)
    assert copy.ctypes.data % HUGE == 0
    assert copy.dtype == array.dtype
    np.testing.assert_array_equal(copy, array)
    copy[...] = 0  # its own memory
    assert array.any()


@pytest.mark.parametrize(
    "text",
    [
        "matmul m=1 n=1024 k=2048 act=f32 weight=u8:2048",
        "matmul m=16 n=1024 k=2048 act=f32 weight=u8:2048",
        "matmul m=16 n=1024 k=2048 act=u8 weight=i8",
        "matmul m=4 n=600 k=1024 act=f32 weight=f32",
        "matmul m=4 n=600 k=2048 act=bf16 weight=bf16",
        "conv2d n=1 c=256 h=3 w=3 oc=255 kh=3 kw=3 pad=1 act=f32 weight=f32",
        "conv2d n=1 c=512 h=3 w=3 oc=510 kh=3 kw=3 pad=1 act=u8 weight=i8",
        "conv2d n=1 c=640 h=64 w=64 oc=640 kh=64 kw=64 group=640 act=u8 weight=i8",
    ],
)
def test_weights_that_fill_huge_pages_are_the_same_weights_there(text: str) -> None:
    backend, workload = CpuBackend(), Workload.parse(text)
    device = backend.device(DeviceText.parse("cpu"))
    family, schedule = backend.family(workload, device), backend.default(workload, device).as_dict()
    assert schedule["pages"] == "system"
    choices = backend.space(workload, device).choices["pages"]
    assert choices == ("system", "huge")
    operands = data.operands(workload, 0)
    constants = [value for value, tensor in zip(operands, workload.operands, strict=True) if tensor.constant]
    system, huge = (family.pack(workload, Schedule.of(**(schedule | {"pages": p})), constants) for p in choices)
    for expected, found in zip(system, huge, strict=True):
        np.testing.assert_array_equal(expected, found)
        assert found.nbytes < HUGE or found.ctypes.data % HUGE == 0
    assert any(found.nbytes >= HUGE for found in huge)


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE") or not SMAPS.exists(), reason="Linux tells in smaps")
def test_the_kernel_was_asked_for_huge_pages() -> None:
    copy = in_huge_pages(np.ones(3 << 20, np.uint8))
    found = flags(copy.ctypes.data)
    assert "hg" in found
    assert "sh" not in found, "memory that processes share follows another setting, whose default is no huge pages"
    assert "hg" not in flags(np.ones(100, np.uint8).ctypes.data)
