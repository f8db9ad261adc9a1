"""Arrays in pages of 2 MB, each of which takes one entry of the processor's address cache where 4 KB pages take 512.

NumPy asks for such pages itself for arrays from :data:`OF_ITS_OWN` bytes on; here is how to have them for smaller ones.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterable, Sequence

import numpy as np

HUGE = 2 << 20
"""Bytes of a huge page."""

OF_ITS_OWN = 4 << 20
"""Bytes of an array from which on NumPy asks for huge pages."""


def choices(sizes: Iterable[int]) -> tuple[str, ...]:
    """Values of the parameter ``pages`` of a space: what the ``system`` gives, or ``huge`` ones.

    Args:
        sizes: bytes of the packed constants, one for each layout. Huge pages are a choice for those that fill one and
            for which NumPy does not ask for them anyway.
    """
    return ("system", "huge") if any(HUGE <= size < OF_ITS_OWN for size in sizes) else ("system",)


def placed(constants: Sequence[np.ndarray], pages: str) -> tuple[np.ndarray, ...]:
    """Packed constants in the pages a schedule names, those that fill none as they are."""
    if pages == "system":
        return tuple(constants)
    return tuple(in_huge_pages(part) if part.nbytes >= HUGE else part for part in constants)


def in_huge_pages(array: np.ndarray) -> np.ndarray:
    """A copy that begins at a huge page. A system without any gives it other pages, which hold the same."""
    length = array.nbytes + HUGE
    if hasattr(mmap, "MADV_HUGEPAGE"):  # Linux
        # what processes share, Python's default, is another setting of the system, under which it gives none
        block = mmap.mmap(-1, length, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        with contextlib.suppress(OSError):  # advice: a kernel built without huge pages refuses it
            block.madvise(mmap.MADV_HUGEPAGE)
    else:
        block = mmap.mmap(-1, length)
    memory = np.frombuffer(block, np.uint8)
    start = -memory.ctypes.data % HUGE
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy
