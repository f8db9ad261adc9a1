"""Copies in huge pages: the same values, at a huge page, with the advice recorded by the kernel."""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np
import pytest

from fettle.backends.cpu.pages import HUGE, in_huge_pages

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


@pytest.mark.skipif(not hasattr(mmap, "MADV_HUGEPAGE") or not SMAPS.exists(), reason="Linux tells in smaps")
def test_the_kernel_was_asked_for_huge_pages() -> None:
    copy = in_huge_pages(np.ones(3 << 20, np.uint8))
    found = flags(copy.ctypes.data)
    assert "hg" in found
    assert "sh" not in found, "memory that processes share follows another setting, whose default is no huge pages"
    assert "hg" not in flags(np.ones(100, np.uint8).ctypes.data)
