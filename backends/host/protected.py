"""Arrays a kernel can read but not write, in the kind of memory they will have once deployed."""

from __future__ import annotations

import ctypes
import mmap
import os

import numpy as np

_HUGE = 1 << 22
"""NumPy asks for huge pages from this many bytes on. Shared memory has none, and is 10 % slower to read."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)


def protected(array: np.ndarray) -> np.ndarray:
    """A C-contiguous copy in private memory, page-aligned and write-protected by the processor.

    A kernel that writes to its inputs or packed weights is caught in the act, instead of making the next ones
    look wrong.

    Raises:
        OSError: the system refuses.
    """
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    size = max(array.nbytes, 1)
    pages = mmap.mmap(-1, size, flags=flags, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    if array.nbytes >= _HUGE:
        pages.madvise(mmap.MADV_HUGEPAGE)
    copy = np.frombuffer(pages, np.uint8, array.nbytes).view(array.dtype).reshape(array.shape)
    copy[...] = array
    if _libc.mprotect(copy.ctypes.data, size, mmap.PROT_READ):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    copy.flags.writeable = False
    return copy
