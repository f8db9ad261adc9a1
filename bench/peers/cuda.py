"""Peers on a CUDA GPU, on the GPU's copies of the operands: what PyTorch brings, and kernels of others where installed.

PyTorch: cuBLAS (16-bit floats, fp8, int8), its four-bit product, SDPA and softmax. Epilogues are PyTorch's operations,
the first part of the product's call where there is one for both. Packages: low-bit products
(:mod:`fettle.bench.peers.packages`) and Liger's softmax (``pip install liger-kernel``).
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any

import numpy as np

from fettle.bench.peers.packages import Absent, GpuRival, attempt, packages
from fettle.bench.peers.torch import INT4PACK_GROUPS, scales_and_zeros
from fettle.graph.epilogues import Epilogue
from fettle.graph.errors import Unsupported
from fettle.graph.operators.attention import hidden_keys, plain_cache
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.workload import Workload

_INSTALL = "pip install torch (2.11 or newer, built for CUDA)"
_INNER_TILES = 8
"""Of K, which ``_convert_weight_to_int4pack`` packs beside each other."""


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
    makers = {"matmul": _products, "attention": _attention, "softmax": _softmax, "lossless": _uncoded}
    maker = makers.get(workload.operator)
    return [] if maker is None else maker(torch, device, workload, operands)


def _products(torch: Any, device: str, workload: Workload, operands: Sequence[Operand]) -> list[GpuRival | Absent]:
    """The dense product (of the dequantised weight, if quantised), and low-bit ones where they take the format."""
    found = _bare_products(torch, device, workload, operands)
    if workload["epilogue"] is None:
        return found
    others = [_tensor(torch, device, operand) for operand in operands[2:]]
    return [peer if isinstance(peer, Absent) else followed(torch, peer, workload, others) for peer in found]


def _bare_products(torch: Any, device: str, workload: Workload, operands: Sequence[Operand]) -> list[GpuRival | Absent]:
    """Without an epilogue."""
    x, weight = _tensor(torch, device, operands[0]), operands[1]
    if not isinstance(weight, QuantizedWeight):
        return [_dense(torch, workload, x, _tensor(torch, device, weight))]
    dense = _dequantised(torch, device, weight).to(x.dtype)
    name = f"torch matmul, {workload['act']} weight"
    found: list[GpuRival | Absent] = [GpuRival(name, (x, dense.T), torch.matmul, {"+": torch.addmm})]
    if weight.format.kind == "u4" and weight.group in INT4PACK_GROUPS and x.dtype == torch.bfloat16:
        found.append(_int4pack(torch, device, x, weight))
    if workload["compute"].bits == 8 and weight.group == x.shape[1]:
        found += _of_rounded_rows(torch, device, x, weight)
    if device == "cuda":
        found += packages(torch, x, weight)
    return found


def _of_rounded_rows(torch: Any, device: str, x: Any, weight: QuantizedWeight) -> list[GpuRival | Absent]:
    """``_int_mm`` and ``_scaled_mm`` of weights of 8 bits; each row of x is rounded to bytes in the same call."""
    scales = torch.from_numpy(weight.scales.astype(np.float32).T.copy()).to(device)

    def rounded(x: Any, most: float) -> tuple[Any, Any]:
        unit = (x.abs().amax(1, keepdim=True).float() / most).clamp_min(1e-30)
        return x / unit, unit

    def of_integers(x: Any, w: Any, scales: Any) -> Any:
        codes, unit = rounded(x, 127.0)
        return (torch._int_mm(codes.round().to(torch.int8), w) * unit * scales).to(x.dtype)

    def of_floats(x: Any, w: Any, scales: Any) -> Any:
        codes, unit = rounded(x, 448.0)
        return torch._scaled_mm(codes.to(w.dtype), w, unit, scales, out_dtype=x.dtype, use_fast_accum=True)

    if weight.format.kind == "u8" and weight.zero_points is None:
        name, product = "torch _int_mm of rounded rows", of_integers
        codes = torch.from_numpy((weight.codes ^ np.uint8(128)).view(np.int8)).to(device)
    elif weight.format.kind == "f8e4m3" and x.dtype == torch.bfloat16:
        name, product = "torch _scaled_mm of rounded rows", of_floats
        codes = torch.from_numpy(weight.codes.copy()).to(device).view(torch.float8_e4m3fn)
    else:
        return []
    return [attempt(name, lambda: GpuRival(name, (x, codes.T, scales), product))]


def _dense(torch: Any, workload: Workload, x: Any, right: Any) -> GpuRival | Absent:
    """cuBLAS; of bytes, which it has for plain matrices, with neighbours in K beside each other."""
    if workload["act"].bits != 8:
        with_bias = {"+": torch.addmm} if workload["batch"] == 1 else {}
        return GpuRival("torch matmul", (x, right), torch.matmul, with_bias)
    name = "torch _int_mm" if workload["act"].kind == "i8" else "torch _scaled_mm"
    if workload["batch"] != 1:
        return Absent(name, "it has no batches")
    right = right.T.contiguous().T
    if workload["act"].kind == "i8":
        return attempt(name, lambda: GpuRival(name, (x, right), torch._int_mm))
    multiply, out = torch._scaled_mm, getattr(torch, workload["out"].dtype.name)
    one = torch.ones((), device=x.device)
    ones = torch.ones((x.shape[0], 1), device=x.device)

    def plain(x: Any, w: Any) -> Any:
        return multiply(x, w, one, one, out_dtype=out, use_fast_accum=True)

    def scaled(b: Any, x: Any, w: Any) -> Any:
        return multiply(x, w, ones, b[None, :], out_dtype=out, use_fast_accum=True)

    return attempt(name, lambda: GpuRival(name, (x, right), plain, {"*": scaled} if out == torch.bfloat16 else {}))


def followed(torch: Any, peer: GpuRival, workload: Workload, others: Sequence[Any]) -> GpuRival | Absent:
    """A peer's product and what the workload does to it afterwards, in the type of the peer's result."""
    epilogue: Epilogue = workload["epilogue"]
    count = len(peer.tensors)
    named = {"silu": torch.nn.functional.silu, "+": torch.add, "-": torch.sub, "*": torch.mul, "/": torch.div}
    named |= {
        name: lambda *values, choose=choose: choose(*map(torch.as_tensor, values))
        for name, choose in (("min", torch.minimum), ("max", torch.maximum))
    }

    def apply(*tensors: Any) -> Any:
        own, rest = tensors[:count], tensors[count:]
        product = functools.cache(lambda: peer.apply(*own))

        def leaf(i: int) -> Any:
            return product if i == 0 else rest[i - 1]

        def operation(name: str, *values: Any) -> Any:
            first, second = values[0], values[-1]
            if first is product and epilogue.rows and second is rest[0] and name in peer.with_row:
                return peer.with_row[name](second, *own)
            values = tuple(value() if value is product else value for value in values)
            return (named.get(name) or getattr(torch, name))(*values)

        result = epilogue.expression.fold(leaf, float, operation)
        return product() if result is product else result

    rows = [row if "*" in peer.with_row else row.to(peer.tensors[0].dtype) for row in others[: epilogue.rows]]
    tensors = (*peer.tensors, *rows, *others[epilogue.rows :])
    return attempt(peer.name, lambda: GpuRival(f"{peer.name}, then {epilogue}", tensors, apply))


def _dequantised(torch: Any, device: str, weight: QuantizedWeight) -> Any:
    """f32 ``[N, K]``, made on the device where that is one line."""
    fmt = weight.format
    if fmt.encodes_numbers or fmt.is_binary_coded or weight.zero_points is not None:
        return torch.from_numpy(weight.dequantise(dtype=np.float32)).to(device)
    scales = torch.from_numpy(weight.scales.astype(np.float32)).to(device)
    centred = torch.from_numpy(weight.codes.copy()).to(device).float().sub_(fmt.zero_point).mul_(fmt.step)
    return centred.mul_(scales.repeat_interleave(weight.group, dim=1)[:, : centred.shape[1]])


def _int4pack(torch: Any, device: str, x: Any, weight: QuantizedWeight) -> GpuRival:
    """``_weight_int4pack_mm``: two codes a byte, the even one high."""
    bytes_ = torch.from_numpy(weight.codes[:, ::2] << 4 | weight.codes[:, 1::2]).to(device)
    packed = torch.ops.aten._convert_weight_to_int4pack(bytes_, _INNER_TILES)
    pairs = torch.from_numpy(scales_and_zeros(weight)).to(device).bfloat16()
    group = weight.group
    return GpuRival(
        "torch int4pack", (x, packed, pairs), lambda x, w, s: torch.ops.aten._weight_int4pack_mm(x, w, group, s)
    )


def _attention(torch: Any, device: str, workload: Workload, operands: Sequence[Operand]) -> list[GpuRival | Absent]:
    """SDPA, with a mask for patterns and where queries are fewer than keys (causal, it aligns to the first key).

    A quantised cache is plain there, in the activations' format.
    """
    queries, causal = workload["q"], bool(workload["causal"]) and workload["q"] > 1
    q, *cache = (np.asarray(operand) for operand in operands)
    name = "torch SDPA"
    if workload["kvcache"].is_quantised:
        name += f", {workload['act']} cache"
        halves = cache[: len(cache) // 2], cache[len(cache) // 2 :]
        cache = [plain_cache(workload.values, half)[0].astype(q.dtype) for half in halves]
    tensors = [_tensor(torch, device, operand) for operand in (q, *cache)]
    grouped = workload["heads"] != workload["kv_heads"]
    attend = torch.nn.functional.scaled_dot_product_attention
    if workload["pattern"] is None and (not causal or queries == workload["kv"]):
        return [GpuRival(name, tuple(tensors), lambda q, k, v: attend(q, k, v, is_causal=causal, enable_gqa=grouped))]
    hidden = hidden_keys(workload.values, np.arange(queries))
    tensors.append(_tensor(torch, device, ~np.asarray(hidden)))
    return [
        GpuRival(f"{name}, masked", tuple(tensors), lambda q, k, v, mask: attend(q, k, v, mask, enable_gqa=grouped))
    ]


def _uncoded(torch: Any, device: str, workload: Workload, operands: Sequence[Operand]) -> list[GpuRival | Absent]:
    """No peer decodes: DFloat11's package knows whole models only. A copy of the plain weight is what that saves."""
    return [GpuRival("torch clone of the plain weight", (_tensor(torch, device, operands[0]),), torch.clone)]


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
    if array.dtype.name.startswith(("bfloat", "float8")):  # NumPy's of ml_dtypes, under torch's names
        plain = torch.from_numpy(array.view(f"i{array.dtype.itemsize}"))
        return plain.to(device).view(getattr(torch, array.dtype.name))
    return torch.from_numpy(array).to(device)
