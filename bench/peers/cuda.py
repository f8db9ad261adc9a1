"""PyTorch's kernels on a CUDA GPU: cuBLAS, its four-bit product, SDPA and softmax, as callables on the GPU's copies."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from fettle.graph.errors import Unsupported
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload

_INSTALL = "pip install torch (2.11 or newer, built for CUDA)"
_INNER_TILES = 8
_GROUPS = (32, 64, 128, 256)


@attrs.frozen(eq=False)
class GpuRival:
    """A peer bound to operands on the device; ``call`` enqueues and returns its result's tensor."""

    name: str
    call: Callable[[], Any]


def load_torch() -> Any:
    """The module, without gradients.

    Raises:
        Unsupported: it is not installed.
    """
    try:
        torch = importlib.import_module("torch")
    except ImportError:
        raise Unsupported("torch is not installed", hint=_INSTALL) from None
    torch.set_grad_enabled(False)
    return torch


def rivals(torch: Any, device: str, workload: Workload, operands: Sequence[Operand]) -> list[GpuRival]:
    """The ways torch has to compute a workload on a device; none if it is not its work."""
    makers = {"matmul": _products, "attention": _attention, "softmax": _softmax}
    maker = makers.get(workload.operator)
    return [] if maker is None else maker(torch, device, workload, operands)


def _products(torch: Any, device: str, workload: Workload, operands: Sequence[Operand]) -> list[GpuRival]:
    """The dense product (of the dequantised weight, if it is quantised), and four bits where torch has them."""
    x, weight = _tensor(torch, device, operands[0]), operands[1]
    if not isinstance(weight, QuantizedWeight):
        y = _tensor(torch, device, weight)
        return [GpuRival("torch matmul", lambda: torch.matmul(x, y))]
    dense = torch.from_numpy(weight.dequantise(dtype=np.float32).T.copy()).to(device).to(x.dtype)
    found = [GpuRival(f"torch matmul, {workload['act']} weight", lambda: torch.matmul(x, dense))]
    if weight.format.kind == "u4" and weight.group in _GROUPS and x.dtype == torch.bfloat16:
        found.append(_int4pack(torch, device, x, weight))
    return found


def _int4pack(torch: Any, device: str, x: Any, weight: QuantizedWeight) -> GpuRival:
    """``_weight_int4pack_mm``: two codes a byte, the even one high; a scale and the value of code 8 per group."""
    bytes_ = torch.from_numpy(weight.codes[:, ::2] << 4 | weight.codes[:, 1::2]).to(device)
    packed = torch.ops.aten._convert_weight_to_int4pack(bytes_, _INNER_TILES)
    scales = weight.scales.astype(np.float32).T
    zeros = np.zeros_like(scales)
    if weight.zero_points is not None:
        zeros = (8.0 - weight.zero_points.T.astype(np.float32)) * scales
    pairs = torch.from_numpy(np.ascontiguousarray(np.stack([scales, zeros], axis=-1))).to(device).bfloat16()
    return GpuRival("torch int4pack", lambda: torch.ops.aten._weight_int4pack_mm(x, packed, weight.group, pairs))


def _attention(torch: Any, device: str, workload: Workload, operands: Sequence[Operand]) -> list[GpuRival]:
    """SDPA; not for quantised caches and patterns, nor causal with more keys than queries (it aligns to the first)."""
    queries, causal = workload["q"], bool(workload["causal"]) and workload["q"] > 1
    if workload["kvcache"].is_quantised or workload["pattern"] is not None or (causal and queries != workload["kv"]):
        return []
    q, k, v = (_tensor(torch, device, operand) for operand in operands)
    grouped = workload["heads"] != workload["kv_heads"]
    attend = torch.nn.functional.scaled_dot_product_attention
    return [GpuRival("torch SDPA", lambda: attend(q, k, v, is_causal=causal, enable_gqa=grouped))]


def _softmax(torch: Any, device: str, workload: Workload, operands: Sequence[Operand]) -> list[GpuRival]:
    x = _tensor(torch, device, operands[0])
    return [GpuRival("torch softmax", lambda: torch.softmax(x, 1))]


def _tensor(torch: Any, device: str, operand: Operand) -> Any:
    """A copy on the device."""
    array = np.ascontiguousarray(operand)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).to(device).view(torch.bfloat16)
    return torch.from_numpy(array).to(device)
