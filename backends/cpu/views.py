"""NumPy arrays as kernels take them: a ``DLTensor`` that points at the array's own memory.

Handing NumPy arrays over directly is quicker for one call, but goes through NumPy's DLPack export, which
knows neither bfloat16 nor read-only arrays. A view knows both, and can be built once and used for many calls.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np

from fettle.graph.errors import InvalidArgument

_CPU = 1
_CODES = {"i": 0, "u": 1, "f": 2}
_BFLOAT16 = 4
"""DLPack's type codes."""


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
