"""Peers on a CUDA GPU, on the GPU's copies of the operands: what PyTorch brings, and kernels of others where installed.

PyTorch: cuBLAS, its four-bit product, SDPA and softmax. Packages: low-bit products (:mod:`fettle.bench.peers.packages`)
and Liger's softmax (``pip install liger-kernel``).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from fettle.bench.peers.packages import Absent, GpuRival, attempt, packages
from fettle.graph.errors import Unsupported
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload

_INSTALL = "pip install torch (2.11 or newer, built for CUDA)"
_INNER_TILES = 8
_GROUPS = (32, 64, 128, 256)


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


def rivals(torch: Any, device: str, workload: Workload, operands: Sequence[Operand]) -> list[GpuRival | Absent]:
    """The ways there are to compute a workload on a device; none if it is nobody's work."""
    makers = {"matmul": _products, "attention": _attention, "softmax": _softmax}
    maker = makers.get(workload.operator)
    return [] if maker is None else maker(torch, device, workload, operands)


def _products(torch: Any, device: str, workload: Workload, operands: Sequence[Operand]) -> list[GpuRival | Absent]:
    """The dense product (of the dequantised weight, if quantised), and low-bit ones where they take the format."""
    x, weight = _tensor(torch, device, operands[0]), operands[1]
    if not isinstance(weight, QuantizedWeight):
        return [GpuRival("torch matmul", (x, _tensor(torch, device, weight)), torch.matmul)]
    dense = _dequantised(torch, device, weight).to(x.dtype)
    found: list[GpuRival | Absent] = [GpuRival(f"torch matmul, {workload['act']} weight", (x, dense.T), torch.matmul)]
    if weight.format.kind == "u4" and weight.group in _GROUPS and x.dtype == torch.bfloat16:
        found.append(_int4pack(torch, device, x, weight))
    if device == "cuda":
        found += packages(torch, x, weight)
    return found


def _dequantised(torch: Any, device: str, weight: QuantizedWeight) -> Any:
    """f32 ``[N, K]``, made on the device where that is one line."""
    fmt = weight.format
    if fmt.encodes_numbers or fmt.is_binary_coded or weight.zero_points is not None:
        return torch.from_numpy(weight.dequantise(dtype=np.float32)).to(device)
    scales = torch.from_numpy(weight.scales.astype(np.float32)).to(device)
    centred = torch.from_numpy(weight.codes.copy()).to(device).float().sub_(fmt.zero_point).mul_(fmt.step)
    return centred.mul_(scales.repeat_interleave(weight.group, dim=1)[:, : centred.shape[1]])


def _int4pack(torch: Any, device: str, x: Any, weight: QuantizedWeight) -> GpuRival:
    """``_weight_int4pack_mm``: two codes a byte, the even one high; a scale and the value of code 8 per group."""
    bytes_ = torch.from_numpy(weight.codes[:, ::2] << 4 | weight.codes[:, 1::2]).to(device)
    packed = torch.ops.aten._convert_weight_to_int4pack(bytes_, _INNER_TILES)
    scales = weight.scales.astype(np.float32).T
    zeros = np.zeros_like(scales)
    if weight.zero_points is not None:
        zeros = (8.0 - weight.zero_points.T.astype(np.float32)) * scales
    pairs = torch.from_numpy(np.ascontiguousarray(np.stack([scales, zeros], axis=-1))).to(device).bfloat16()
    group = weight.group
    return GpuRival(
        "torch int4pack", (x, packed, pairs), lambda x, w, s: torch.ops.aten._weight_int4pack_mm(x, w, group, s)
    )


def _attention(torch: Any, device: str, workload: Workload, operands: Sequence[Operand]) -> list[GpuRival | Absent]:
    """SDPA; not for quantised caches and patterns, nor causal with more keys than queries (it aligns to the first)."""
    queries, causal = workload["q"], bool(workload["causal"]) and workload["q"] > 1
    if workload["kvcache"].is_quantised or workload["pattern"] is not None or (causal and queries != workload["kv"]):
        return []
    tensors = tuple(_tensor(torch, device, operand) for operand in operands)
    grouped = workload["heads"] != workload["kv_heads"]
    attend = torch.nn.functional.scaled_dot_product_attention
    return [GpuRival("torch SDPA", tensors, lambda q, k, v: attend(q, k, v, is_causal=causal, enable_gqa=grouped))]


def _softmax(torch: Any, device: str, workload: Workload, operands: Sequence[Operand]) -> list[GpuRival | Absent]:
    tensors = (_tensor(torch, device, operands[0]),)
    found: list[GpuRival | Absent] = [GpuRival("torch softmax", tensors, lambda x: torch.softmax(x, 1))]
    if device == "cuda" and importlib.util.find_spec("liger_kernel") is not None:
        module = "liger_kernel.ops.softmax"
        found.append(
            attempt(
                "liger softmax",
                lambda: GpuRival("liger softmax", tensors, importlib.import_module(module).LigerSoftmaxFunction.apply),
            )
        )
    return found


def _tensor(torch: Any, device: str, operand: Operand) -> Any:
    """A copy on the device."""
    array = np.array(operand, order="C")  # torch warns of read-only memory
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(array.view(np.int16)).to(device).view(torch.bfloat16)
    return torch.from_numpy(array).to(device)
