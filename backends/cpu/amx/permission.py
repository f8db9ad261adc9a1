"""Asks the system for tile registers. Linux saves their 8 KB only for processes that asked (``arch_prctl``)."""

from __future__ import annotations

import ctypes
import os
from functools import cache

from fettle.graph.errors import Unsupported

_SYS_ARCH_PRCTL = 158
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18


@cache
def permit() -> None:
    """Let every thread of this process use tile registers, now and later. Without it the first use kills the process.

    Raises:
        Unsupported: the system refuses.
    """
    number = _request()
    if number:
        raise Unsupported(
            f"the system does not let this process use AMX tile registers: {os.strerror(number)}",
            hint="needs Linux 5.16 and no sandbox that forbids arch_prctl; the device cpu,isa=avx512vnni does without",
        )


def _request() -> int:
    """0, or the error number of the system call."""
    libc = ctypes.CDLL(None, use_errno=True)
    failed = libc.syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA)
    return ctypes.get_errno() if failed else 0
