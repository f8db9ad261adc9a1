"""PyTorch's kernels on CPU: MKL, oneDNN, FBGEMM and its own. Where it offers several ways, all are rivals."""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fettle.bench.peers.rival import Rival
from fettle.graph.errors import Unsupported
from fettle.graph.operators.attention import is_usual
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload

_INSTALL = "pip install torch==2.13.0"

INT4PACK_GROUPS = (32, 64, 128, 256)
"""Elements that may share a scale in torch's four-bit products."""

_ENGINES = ("x86", "onednn", "fbgemm")
"""Quantisation engines of torch; x86 chooses between the two others by shape."""


def int4pack(workload: Workload, operands: Sequence[Operand], threads: int) -> list[Rival]:
    """``_weight_int4pack_mm_for_cpu`` with bfloat16 activations, scales and zero points (float32 is scalar code).

    Raises:
        Unsupported: no torch, or the format or shape is not its.
    """
    x, weight = operands[0], operands[1] if len(operands) > 1 else None
    if not isinstance(weight, QuantizedWeight):
        return []
    if weight.format.kind != "u4" or weight.group not in INT4PACK_GROUPS or weight.shape[1] % weight.group:
        raise Unsupported(f"torch int4pack has no kernel for {weight.format} with K={weight.shape[1]}")
    torch = _torch(threads)
    packed = torch.ops.aten._convert_weight_to_int4pack_for_cpu(torch.from_numpy(weight.codes.astype(np.int32)), 1)
    pairs = torch.from_numpy(scales_and_zeros(weight)).bfloat16()
    inputs = _tensor(torch, x).bfloat16()
    return [
        _rival(
            "torch int4pack bf16",
            lambda: torch.ops.aten._weight_int4pack_mm_for_cpu(inputs, packed, weight.group, pairs),
            4 + 32 / weight.group,
        )
    ]


def scales_and_zeros(weight: QuantizedWeight) -> NDArray[np.float32]:
    """What torch's four-bit products scale with, ``[groups, N, 2]``: a scale, and the value of code 8."""
    scales = weight.scales.astype(np.float32).T
    zeros = np.zeros_like(scales)
    if weight.zero_points is not None:
        zeros = (8.0 - weight.zero_points.T.astype(np.float32)) * scales
    return np.ascontiguousarray(np.stack([scales, zeros], axis=-1))


def int8(workload: Workload, operands: Sequence[Operand], threads: int) -> list[Rival]:
    """Quantised linear layers: weights rounded to int8 per row, activations to uint8 per tensor.

    ``qlinear_pointwise`` gets activations that are rounded already; the dynamic ones round them in each call.

    Raises:
        Unsupported: no torch.
    """
    x, weight = operands[0], operands[1] if len(operands) > 1 else None
    if not isinstance(weight, QuantizedWeight):
        return []
    torch = _torch(threads)
    (m, k), n = workload.operands[0].shape, weight.shape[0]
    inputs = _tensor(torch, x).float()
    dense = torch.from_numpy(weight.dequantise(dtype=np.float32))
    scales = dense.abs().amax(1) / 127
    codes = (dense / scales[:, None]).round().clamp(-127, 127).to(torch.int8)
    step = max(float(inputs.abs().max()) / 127, 1e-30)
    rounded = ((inputs / step).round() + 128).clamp(0, 255).to(torch.uint8)
    packed = torch.ops.onednn.qlinear_prepack(codes, [m, k])
    zeros = torch.zeros(n, dtype=torch.int32)
    bits = 8 + 32 / k

    def pointwise() -> Any:
        return torch.ops.onednn.qlinear_pointwise(
            rounded, step, 128, packed, scales, zeros, None, 1.0, 0, torch.float32, "none", [], ""
        )

    rivals = [_rival("torch qlinear_pointwise", pointwise, bits)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch moves quantised tensors to torchao, but these kernels stay
        quantised = torch._make_per_channel_quantized_tensor(
            codes, scales.double(), torch.zeros(n, dtype=torch.long), 0
        )
    for engine in _ENGINES:
        if engine not in torch.backends.quantized.supported_engines:
            continue
        torch.backends.quantized.engine = engine  # the packed weight remembers it
        prepacked = torch.ops.quantized.linear_prepack(quantised, None)

        def dynamic(prepacked: Any = prepacked) -> Any:
            return torch.ops.quantized.linear_dynamic(inputs, prepacked)

        rivals.append(_rival(f"torch linear_dynamic {engine}", dynamic, bits))
    return rivals


def mm(workload: Workload, operands: Sequence[Operand], threads: int) -> list[Rival]:
    """``torch.mm`` into a result allocated before.

    Raises:
        Unsupported: no torch.
    """
    plain = len(operands) == 2 and all(isinstance(o, np.ndarray) for o in operands)
    if workload.operator != "matmul" or not plain:
        return []
    torch = _torch(threads)
    x, y = (_tensor(torch, o) for o in operands)
    out = torch.empty((*x.shape[:-1], y.shape[-1]), dtype=x.dtype)
    multiply = torch.mm if x.dim() == 2 else torch.bmm
    return [_rival(f"torch {multiply.__name__}", lambda: multiply(x, y, out=out))]


def conv2d(workload: Workload, operands: Sequence[Operand], threads: int) -> list[Rival]:
    """oneDNN's convolution: as called (NCHW and channels last), and with the weight reordered once before.

    Raises:
        Unsupported: no torch, or uneven padding.
    """
    if workload.operator != "conv2d" or workload["act"].kind != "f32":
        return []
    torch = _torch(threads)
    x, weight = (_tensor(torch, o) for o in operands[:2])
    v = workload.values
    if v["pad"][:2] != v["pad"][2:]:
        raise Unsupported("torch's convolutions pad both sides of an axis alike")
    stride, pad, dilation, group = list(v["stride"]), list(v["pad"][:2]), list(v["dilation"]), v["group"]
    convolve = partial(torch.nn.functional.conv2d, stride=stride, padding=pad, dilation=dilation, groups=group)
    last_x, last_weight = (t.contiguous(memory_format=torch.channels_last) for t in (x, weight))
    reordered = torch.ops.mkldnn._reorder_convolution_weight(weight, pad, stride, dilation, group, list(x.shape))

    def prepacked() -> Any:
        return torch.ops.mkldnn._convolution_pointwise(x, reordered, None, pad, stride, dilation, group, "none", [], "")

    return [
        _rival("torch conv2d", lambda: convolve(x, weight)),
        _rival("torch conv2d channels last", lambda: convolve(last_x, last_weight)),
        _rival("torch conv2d prepacked", prepacked),
    ]


def softmax(workload: Workload, operands: Sequence[Operand], threads: int) -> list[Rival]:
    """``torch.softmax`` with ``out=``.

    Raises:
        Unsupported: no torch.
    """
    if workload.operator != "softmax":
        return []
    torch = _torch(threads)
    x = _tensor(torch, operands[0])
    out = torch.empty_like(x)
    return [_rival("torch softmax out=", lambda: torch.softmax(x, 1, out=out))]


def attention(workload: Workload, operands: Sequence[Operand], threads: int) -> list[Rival]:
    """``scaled_dot_product_attention`` with grouped heads; for one query also with the group as queries.

    Raises:
        Unsupported: no torch, or a cache that is not in the activations' format.
    """
    if workload.operator != "attention":
        return []
    if not all(isinstance(o, np.ndarray) for o in operands):
        raise Unsupported("torch SDPA has no quantised cache")
    torch = _torch(threads)
    q, k, v, *mask = (_tensor(torch, o) for o in operands)
    if k.dtype != q.dtype:
        raise Unsupported("torch SDPA needs a cache in the activations' format")
    attend = torch.nn.functional.scaled_dot_product_attention
    batch, heads, queries, dim = q.shape
    group = heads // k.shape[1]
    causal = bool(workload["causal"]) and queries > 1  # one query sees all that came before
    if causal and queries != k.shape[2]:
        raise Unsupported("torch SDPA aligns its causal mask to the first key")
    if causal and mask:
        raise Unsupported("torch SDPA is causal or has a mask")
    scale, added = workload["scale"], mask[0] if mask else None
    rivals = [_rival("torch SDPA", lambda: attend(q, k, v, added, 0.0, causal, scale=scale, enable_gqa=group > 1))]
    if is_usual(workload.values) and queries == 1 and group > 1:
        folded = q.reshape(batch, heads // group, group, dim)
        rivals.append(_rival("torch SDPA, group as queries", lambda: attend(folded, k, v), shape=tuple(q.shape)))
    return rivals


def _torch(threads: int) -> Any:
    """The module, set to so many threads. Imported here only: worker processes must stay free of it."""
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise Unsupported("torch is not installed", hint=_INSTALL) from None
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    return torch


def _tensor(torch: Any, array: Operand) -> Any:
    """A tensor over the same memory."""
    assert isinstance(array, np.ndarray)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array)


def _rival(
    name: str, call: Callable[[], Any], bits_per_weight: float | None = None, shape: tuple[int, ...] | None = None
) -> Rival:
    def result() -> np.ndarray:
        value = call()
        return np.asarray((value if shape is None else value.reshape(shape)).float().contiguous().numpy())

    return Rival(name, call, result, bits_per_weight)
