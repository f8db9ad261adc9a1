"""NumPy arrays as kernels take them: a ``DLTensor`` that points at the array's own memory.

Handing NumPy arrays over directly is quicker for one call, but goes through NumPy's DLPack export, which
knows neither bfloat16 nor read-only arrays. A view knows both, and can be built once and used for many calls.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from fettle.graph.errors import InvalidArgument

_CPU = 1
_CODES = {"i": 0, "u": 1, "f": 2}
_BFLOAT16 = 4
"""DLPack's type codes."""


ALIGNMENT = 64
"""Bytes: a cache line, and the widest vector register. A vector load across two lines costs two."""


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


class TensorView(ctypes.c_void_p):
    """Pointer to a ``DLTensor`` over a C-contiguous array of any alignment; keeps the array alive."""

    array: np.ndarray
    tensor: _DLTensor

    @classmethod
    def of(cls, array: np.ndarray) -> TensorView:
        """View an array. Writing through a view of a read-only array is undefined: only pass those as inputs.

        Raises:
            InvalidArgument: the array is not C-contiguous.
        """
        if not array.flags.c_contiguous:
            raise InvalidArgument(f"the array {array.dtype} {array.shape} is not C-contiguous")
        code = _BFLOAT16 if array.dtype.name == "bfloat16" else _CODES[array.dtype.kind]
        shape = (ctypes.c_int64 * array.ndim)(*array.shape)
        tensor = _DLTensor(array.ctypes.data, _CPU, 0, array.ndim, code, 8 * array.dtype.itemsize, 1, shape, None, 0)
        view = cls(ctypes.addressof(tensor))
        view.array, view.tensor = array, tensor
        return view


def prepared(arrays: Sequence[np.ndarray]) -> list[TensorView]:
    """Views for many calls."""
    return [TensorView.of(array) for array in arrays]


def immediate(arrays: Sequence[np.ndarray]) -> list[np.ndarray | TensorView]:
    """Arguments for one call: the array itself where NumPy can export it."""
    return [a if a.dtype.kind in _CODES and a.flags.writeable else TensorView.of(a) for a in arrays]


def empty(shape: Sequence[int], dtype: np.dtype[Any]) -> np.ndarray:
    """An uninitialised array that starts on a cache line (NumPy itself aligns to 16 bytes)."""
    size = math.prod(shape) * dtype.itemsize
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size].view(dtype).reshape(shape)


def copied(array: np.ndarray) -> np.ndarray:
    """A copy that starts on a cache line."""
    copy = empty(array.shape, array.dtype)
    copy[...] = array
    return copy


def aligned(array: np.ndarray) -> np.ndarray:
    """The array itself if it starts on a cache line and is C-contiguous, else a copy that does."""
    return array if array.flags.c_contiguous and array.ctypes.data % ALIGNMENT == 0 else copied(array)
