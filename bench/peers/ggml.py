"""ggml's kernels on CPU: llama.cpp's products with quantised weights, by its C interface.

The shared libraries come with the package llama-cpp-python, which builds them for this machine; its Python code is not
imported. ggml rounds activations to int8 by blocks of 32 in each call, as ours may.
"""

from __future__ import annotations

import ctypes
import importlib.util
import itertools
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fettle.bench.peers.rival import Rival
from fettle.graph.errors import Unsupported
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload

PACKAGE = "llama-cpp-python"
_INSTALL = f"pip install {PACKAGE}==0.3.36"

BLOCK = 32
"""Elements of a block of ggml's formats Q4_0 and Q8_0, which has a float16 scale."""

_TYPES = {"u4": 2, "u8": 8}
"""``GGML_TYPE_Q4_0`` and ``GGML_TYPE_Q8_0``: codes around the zero points 8 and 128."""
_F32 = 0
_REPACKED_ROWS = 8
"""Rows of a weight that ggml interleaves; others it cannot repack."""


def quantised(workload: Workload, operands: Sequence[Operand], threads: int) -> list[Rival]:
    """``ggml_mul_mat`` with the same codes and scales, as stored and repacked (which llama.cpp does when it loads).

    Raises:
        Unsupported: no ggml, or the format is none of its blocks'.
    """
    x, weight = operands[0], operands[1] if len(operands) > 1 else None
    if not isinstance(weight, QuantizedWeight) or not isinstance(x, np.ndarray):
        return []
    packed = blocks(weight)
    library = _library()
    buffers = {"": library.ggml_backend_cpu_buffer_type()}
    repacking = _repacking(library)
    if repacking and weight.format.kind == "u4" and weight.shape[0] % _REPACKED_ROWS == 0:
        buffers[" repacked"] = repacking
    kind, inputs = _TYPES[weight.format.kind], np.ascontiguousarray(x, np.float32)
    products = {name: _Product(library, kind, packed, inputs, buffer, threads) for name, buffer in buffers.items()}
    bits = 8.0 * packed.nbytes / weight.codes.size
    return [
        Rival(f"ggml {weight.format.bits}-bit{name}", product.compute, product.result, bits)
        for name, product in products.items()
    ]


def blocks(weight: QuantizedWeight) -> NDArray[np.uint8]:
    """The weight in ggml's format, value for value: ``[N, K / 32, bytes of a block]``.

    A block of Q4_0 has 16 elements in the low halves of its bytes, and the next 16 in the high halves.

    Raises:
        Unsupported: blocks of 32 cannot hold these values.
    """
    fmt, (n, k) = weight.format, weight.shape
    if fmt.kind not in _TYPES or fmt.zero_points or fmt.scale != "f16":
        raise Unsupported(f"ggml has no exact block format for {fmt}", hint="u4 or u8 with f16 scales, no zero points")
    if weight.group % BLOCK or k % weight.group:
        raise Unsupported(f"groups of {fmt} with K={k} are not whole blocks of {BLOCK}")
    scales = weight.expand(weight.scales.astype(np.float16))[:, ::BLOCK, None]
    codes = weight.codes.reshape(n, k // BLOCK, BLOCK)
    if fmt.kind == "u4":
        stored = codes[..., : BLOCK // 2] | codes[..., BLOCK // 2 :] << np.uint8(4)
    else:
        stored = codes ^ np.uint8(0x80)  # code - 128 as int8
    return np.concatenate([np.ascontiguousarray(scales).view(np.uint8), stored], axis=2)


class _Product:
    """A graph of one product, its tensors in memory. Lives as long as the process: a bench makes a few."""

    def __init__(
        self,
        library: ctypes.CDLL,
        kind: int,
        packed: NDArray[np.uint8],
        x: NDArray[np.float32],
        buffer: int,
        threads: int,
    ) -> None:
        (m, k), n = x.shape, packed.shape[0]
        backend = library.ggml_backend_cpu_init()
        library.ggml_backend_cpu_set_n_threads(backend, threads)
        weights = library.ggml_init(_Parameters(1 << 16, None, True))
        w = library.ggml_new_tensor_2d(weights, kind, k, n)
        _allocated(library.ggml_backend_alloc_ctx_tensors_from_buft(weights, buffer))
        library.ggml_backend_tensor_set(w, packed.ctypes.data, 0, packed.nbytes)
        values = library.ggml_init(_Parameters(1 << 20, None, True))
        inputs = library.ggml_new_tensor_2d(values, _F32, k, m)
        y = library.ggml_mul_mat(values, w, inputs)
        graph = library.ggml_new_graph(values)
        library.ggml_build_forward_expand(graph, y)
        _allocated(library.ggml_backend_alloc_ctx_tensors(values, backend))
        library.ggml_backend_tensor_set(inputs, x.ctypes.data, 0, x.nbytes)
        self._library, self._backend, self._graph = library, backend, graph
        self._y, self._shape = y, (m, n)

    def compute(self) -> None:
        if self._library.ggml_backend_graph_compute(self._backend, self._graph):
            raise RuntimeError("ggml could not compute its graph")

    def result(self) -> np.ndarray:
        self.compute()
        out = np.empty(self._shape, np.float32)
        self._library.ggml_backend_tensor_get(self._y, out.ctypes.data, 0, out.nbytes)
        return out


class _Parameters(ctypes.Structure):
    """``ggml_init_params``."""

    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


def _allocated(buffer: int | None) -> None:
    if not buffer:
        raise MemoryError("ggml could not allocate its tensors")


_POINTER, _INT, _SIZE = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t

_SIGNATURES: dict[str, tuple[type | None, tuple[type, ...]]] = {
    "ggml_init": (_POINTER, (_Parameters,)),
    "ggml_new_tensor_2d": (_POINTER, (_POINTER, _INT, ctypes.c_int64, ctypes.c_int64)),
    "ggml_mul_mat": (_POINTER, (_POINTER, _POINTER, _POINTER)),
    "ggml_new_graph": (_POINTER, (_POINTER,)),
    "ggml_build_forward_expand": (None, (_POINTER, _POINTER)),
    "ggml_cpu_has_avx2": (_INT, ()),
    "ggml_backend_cpu_init": (_POINTER, ()),
    "ggml_backend_cpu_set_n_threads": (None, (_POINTER, _INT)),
    "ggml_backend_cpu_buffer_type": (_POINTER, ()),
    "ggml_backend_cpu_reg": (_POINTER, ()),
    "ggml_backend_reg_dev_get": (_POINTER, (_POINTER, _SIZE)),
    "ggml_backend_reg_get_proc_address": (_POINTER, (_POINTER, ctypes.c_char_p)),
    "ggml_backend_buft_name": (ctypes.c_char_p, (_POINTER,)),
    "ggml_backend_alloc_ctx_tensors": (_POINTER, (_POINTER, _POINTER)),
    "ggml_backend_alloc_ctx_tensors_from_buft": (_POINTER, (_POINTER, _POINTER)),
    "ggml_backend_tensor_set": (None, (_POINTER, _POINTER, _SIZE, _SIZE)),
    "ggml_backend_tensor_get": (None, (_POINTER, _POINTER, _SIZE, _SIZE)),
    "ggml_backend_graph_compute": (_INT, (_POINTER, _POINTER)),
}
"""Function -> (result, arguments), from ggml.h, ggml-alloc.h, ggml-backend.h and ggml-cpu.h."""


@cache
def _library() -> ctypes.CDLL:
    """ggml's functions.

    Raises:
        Unsupported: the package is not installed, or its libraries cannot be loaded or lack a function.
    """
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or not spec.submodule_search_locations:
        raise Unsupported("ggml is not installed", hint=_INSTALL)
    folder = Path(spec.submodule_search_locations[0]) / "lib"
    try:
        ctypes.CDLL(str(folder / "libggml-base.so"), mode=ctypes.RTLD_GLOBAL)
        library = ctypes.CDLL(str(folder / "libggml-cpu.so"))
        for name, (result, arguments) in _SIGNATURES.items():
            function = getattr(library, name)
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise Unsupported(f"ggml's libraries are not usable: {error}", hint=_INSTALL) from None
    return library


def _repacking(library: ctypes.CDLL) -> int | None:
    """The buffer type that repacks the weights it is given, if this processor has one (x86: with AVX2)."""
    registry = library.ggml_backend_cpu_reg()
    address = library.ggml_backend_reg_get_proc_address(registry, b"ggml_backend_dev_get_extra_bufts")
    if not address or not library.ggml_cpu_has_avx2():
        return None
    extra = ctypes.CFUNCTYPE(ctypes.POINTER(_POINTER), _POINTER)(address)
    found = extra(library.ggml_backend_reg_dev_get(registry, 0))
    for index in itertools.count():
        if not found or not found[index]:
            return None
        if library.ggml_backend_buft_name(found[index]) == b"CPU_REPACK":
            return int(found[index])
    return None
