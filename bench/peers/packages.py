"""Low-bit products of packages for CUDA GPUs, each on our codes and scales; compared with the reference before timing.

========  ===========================  ==================================================================
humming   ``humming-kernels``          weights of 1 … 8 bits; compiles itself, needs nvcc
gemlite   ``gemlite``                  weights of 1, 2, 4 and 8 bits, scales and zero points; Triton kernels
torchao   ``torchao`` with ``mslk``    four bits beside bf16; its other layout is PyTorch's own product
tilus     ``tilus``                    none: the package brings the language, but no low-bit product
========  ===========================  ==================================================================
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import numpy as np

from fettle.graph.quantized import QuantizedWeight


@attrs.frozen(eq=False)
class GpuRival:
    """A peer bound to tensors on the device; ``apply`` enqueues and returns its result's tensor.

    Attributes:
        with_row: ``+`` or ``*`` -> what does that to a product and a row in one call: (row, tensors …) -> result.
    """

    name: str
    tensors: tuple[Any, ...]
    apply: Callable[..., Any]
    with_row: Mapping[str, Callable[..., Any]] = attrs.field(factory=dict)

    def call(self) -> Any:
        return self.apply(*self.tensors)

    def copies(self, count: int) -> list[GpuRival]:
        """So many, this one first, each with tensors of its own, so that calls in turn find nothing in a cache."""
        return [self, *(attrs.evolve(self, tensors=tuple(t.clone() for t in self.tensors)) for _ in range(count - 1))]


@attrs.frozen
class Absent:
    """A peer that could not be set up here."""

    name: str
    reason: str


def attempt(name: str, make: Callable[[], GpuRival]) -> GpuRival | Absent:
    """A peer that compiles itself when it is first used, and may fail to."""
    try:
        rival = make()
        rival.call()
    except Exception as error:  # whatever the package raises
        return Absent(name, f"{type(error).__name__}: {error}"[:500])
    return rival


def packages(torch: Any, x: Any, weight: QuantizedWeight) -> list[GpuRival | Absent]:
    """The packages that take a weight's format; those that are not installed, with the way to."""
    fmt = weight.format
    found: list[GpuRival | Absent] = []
    if fmt.kind != f"u{fmt.bits}" or fmt.scale != "f16":
        return found
    takes = {
        "humming": ("humming", "pip install humming-kernels", not fmt.zero_points, _humming),
        "gemlite": ("gemlite", "pip install gemlite", fmt.bits in (1, 2, 4, 8), _gemlite),
        "torchao": ("torchao", "pip install torchao mslk", fmt.bits == 4 and x.dtype == torch.bfloat16, _torchao),
    }
    for name, (module, install, fits, make) in takes.items():
        if fits and importlib.util.find_spec(module) is None:
            found.append(Absent(name, f"not installed: {install}"))
        elif fits:
            found.append(attempt(name, lambda make=make: make(torch, x, weight)))  # type: ignore[misc]
    return found


def _scales(torch: Any, x: Any, weight: QuantizedWeight) -> Any:
    """``[N, groups]`` of the activations' type."""
    return torch.from_numpy(weight.scales.astype(np.float32)).to(x.device).to(x.dtype)


def _zeros(torch: Any, x: Any, weight: QuantizedWeight) -> Any:
    """The code that stands for zero, ``[N, groups]``, of the activations' type."""
    zeros = np.full(weight.scales.shape, weight.format.zero_point)
    if weight.zero_points is not None:
        zeros = weight.zero_points.astype(np.float64)
    return torch.from_numpy(zeros).to(x.device).to(x.dtype)


def _humming(torch: Any, x: Any, weight: QuantizedWeight) -> GpuRival:
    """Codes side by side in 32-bit words, low bits first; scales ``[N, groups]`` of the activations' type."""
    layers = importlib.import_module("humming.layer")
    bits, (n, k) = weight.format.bits, weight.codes.shape
    config = {"dtype": f"uint{bits}", "group_size": 0 if weight.group in (None, k) else weight.group}
    layer = layers.HummingLayer(shape_n=n, shape_k=k, weight_config=config, torch_dtype=x.dtype).to(x.device)
    codes = torch.from_numpy(weight.codes.astype(np.int32)).to(x.device)
    words = importlib.import_module("humming.ops").pack_weight(codes, bits)
    layer.load_from_tensors({"weight": words, "weight_scale": _scales(torch, x, weight)})
    layer.transform()
    forward, config = importlib.import_module("humming.forward").humming_forward, layer.humming_config
    names = [
        name for name in ("weight", "weight_scale", "zero_point", "locks") if getattr(layer, name, None) is not None
    ]

    def apply(x: Any, *tensors: Any) -> Any:
        return forward(config, inputs=x, **dict(zip(names, tensors, strict=True)))

    return GpuRival("humming", (x, *(getattr(layer, name) for name in names)), apply)


def _gemlite(torch: Any, x: Any, weight: QuantizedWeight) -> GpuRival:
    """gemlite 0.6: its layer for 16-bit activations packs codes; the layer's tensors go to its product."""
    layer = importlib.import_module("gemlite.helper").A16Wn(device=str(x.device), dtype=x.dtype)
    codes = torch.from_numpy(weight.codes.copy()).to(x.device)
    scales, zeros = _scales(torch, x, weight), _zeros(torch, x, weight)
    packed = layer.from_weights(codes, scales, zeros, weight.format.bits, weight.group)
    forward = importlib.import_module("gemlite.core").forward_functional
    meta = packed.get_meta_args()
    return GpuRival("gemlite", (x, *packed.get_tensor_args()), lambda x, *tensors: forward(x, None, [*tensors], meta))


def _torchao(torch: Any, x: Any, weight: QuantizedWeight) -> GpuRival:
    """torchao 0.18's plain layout: two codes a byte, less eight; scales and additive zeros ``[groups, N]``."""
    module = importlib.import_module("torchao.quantization.quantize_.workflows.int4.int4_tensor")
    if module.pack_int4 is None:
        raise ImportError("its products are in mslk: pip install mslk")
    codes = torch.from_numpy(weight.codes.astype(np.int8) - 8).to(x.device)
    scales = _scales(torch, x, weight).T.contiguous()
    zeros = (8 - _zeros(torch, x, weight)).T.contiguous() * scales
    shape, block = codes.shape, [1, weight.group]

    def apply(x: Any, codes: Any, scales: Any, zeros: Any) -> Any:
        return torch.nn.functional.linear(x, module.Int4Tensor(codes, scales, zeros, block, shape))

    return GpuRival("torchao", (x, module.pack_int4(codes), scales, zeros), apply)
