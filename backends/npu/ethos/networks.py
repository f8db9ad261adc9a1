"""Workloads as int8 networks, and the choices there are in writing them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from fettle.backends.api import Constraint, Parameter, Value
from fettle.graph.data import operands
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload

if TYPE_CHECKING:
    from fettle.backends.npu.ethos.tflite import Network

FULLY_CONNECTED, CONV_ROW, CONV_SQUARE = "fully_connected", "conv_row", "conv_square"
"""A product as itself, as a 1x1 convolution over rows in a line, or over rows in a rectangle near a square."""

_BINARY = re.compile(r"x0([+\-*])x1")
_SEED = 0

SCALE = 1.0 / 64.0
"""What one step of inputs and weights stands for; a power of two, so that real values are exact."""

_DEVIATIONS = 4.0
"""Standard deviations of a result that its int8 steps reach over; the rest saturates."""


def unsupported(workload: Workload) -> str:
    """Why a workload cannot be written as a network; empty if it can."""
    v = workload.values
    if v.get("zero") or "u8" in (str(v.get("act")), str(workload.result.format)):
        return "networks for Ethos-U have codes and steps of their own, not those of a workload"
    if workload.operator in ("conv2d", "elementwise") and not v["act"].is_float:
        return "networks for Ethos-U have codes and steps of their own, not those of a workload"
    if workload.operator == "matmul":
        if v["weight"] is None or v["batch"] != 1 or v["epilogue"] is not None:
            return "products for Ethos-U have a constant weight, no batch and no epilogue"
        if v["weight"].encodes_numbers:
            return f"weights for Ethos-U are whole numbers of one scale; {v['weight']} has exponents of its own"
        return ""
    if workload.operator == "elementwise":
        return "" if _BINARY.fullmatch(str(v["expr"])) else "elementwise for Ethos-U is x0+x1, x0-x1 or x0*x1"
    if workload.operator == "conv2d":
        pads, stride = set(v["pad"]), v["stride"]
        same = set(stride) == {1} and v["kh"] == v["kw"] and pads == {(v["kh"] - 1) / 2}
        if not (same or pads == {0}) or v["n"] != 1:
            return "convolutions for Ethos-U have one image, and no padding or what keeps its size"
        if v["group"] != 1 or stride[0] != stride[1] or set(v["dilation"]) != {1}:
            return "convolutions for Ethos-U have one group, no dilation, and one stride for both axes"
        return ""
    return "Ethos-U takes matmul conv2d elementwise"


def choices(workload: Workload) -> tuple[tuple[Parameter, ...], tuple[Constraint, ...]]:
    """Choices in writing a workload down."""
    if workload.operator == "matmul":
        most = workload["n"]
        parts = Parameter("split", tuple(p for p in (1, 2, 4, 8) if most % p == 0))
        return (Parameter("form", (FULLY_CONNECTED, CONV_ROW, CONV_SQUARE)), parts), ()
    return (), ()


def textbook(workload: Workload) -> dict[str, Value]:
    """The choices nobody thinks about."""
    return {"form": FULLY_CONNECTED, "split": 1} if workload.operator == "matmul" else {}


def write(workload: Workload, choice: Mapping[str, Value]) -> bytes:
    """The network; weights are drawn as for verification and rounded to 8 bits."""
    from fettle.backends.npu.ethos.tflite import Network

    network = Network()
    output = _WRITERS[workload.operator](network, workload, choice)
    return network.write([output])


def weight(workload: Workload) -> np.ndarray:
    """Weights as the network has them: ``[n, k]``, or ``[oc, kh, kw, c]`` of a convolution; int8."""
    constant = operands(workload, _SEED)[1]
    if workload.operator == "conv2d":
        return _to_int8(np.asarray(constant, np.float64).transpose(0, 2, 3, 1))
    plain = constant.dequantise() if isinstance(constant, QuantizedWeight) else np.asarray(constant, np.float64).T
    return _to_int8(plain)


def _result_scale(filters: np.ndarray) -> float:
    """Of the results of inputs that are uniform over int8, so that few saturate and few steps are wasted."""
    strongest = float(np.sqrt((filters.astype(np.float64) ** 2).reshape(len(filters), -1).sum(axis=1)).max())
    return _DEVIATIONS * SCALE * SCALE * max(strongest, 1.0) / math.sqrt(3.0)


def _matmul(network: Network, workload: Workload, choice: Mapping[str, Value]) -> int:
    m, k = workload["m"], workload["k"]
    whole = weight(workload)
    scale = _result_scale(whole)
    parts = np.split(whole, int(choice["split"]))
    if choice["form"] == FULLY_CONNECTED:
        x = network.input(SCALE, m, k)
        results = [network.fully_connected(x, network.constant(part, SCALE), scale) for part in parts]
    else:
        tall = max(d for d in range(1, int(m**0.5) + 1) if m % d == 0) if choice["form"] == CONV_SQUARE else 1
        x = network.input(SCALE, 1, tall, m // tall, k)
        filters = [network.constant(part[:, None, None, :], SCALE) for part in parts]
        results = [network.conv(x, part, 1, True, scale) for part in filters]
    return results[0] if len(results) == 1 else network.concatenate(results)


def _conv(network: Network, workload: Workload, choice: Mapping[str, Value]) -> int:
    v = workload.values
    filters = weight(workload)
    x = network.input(SCALE, 1, v["h"], v["w"], v["c"])
    return network.conv(x, network.constant(filters, SCALE), v["stride"][0], max(v["pad"]) > 0, _result_scale(filters))


def _elementwise(network: Network, workload: Workload, choice: Mapping[str, Value]) -> int:
    match = _BINARY.fullmatch(str(workload["expr"]))
    assert match is not None
    shape = (1, *workload["shape"]) if len(workload["shape"]) < 4 else tuple(workload["shape"])
    scale = 128.0 * SCALE * SCALE if match[1] == "*" else 2.0 * SCALE
    return network.elementwise(match[1], network.input(SCALE, *shape), network.input(SCALE, *shape), scale)


def _to_int8(values: np.ndarray) -> np.ndarray:
    if np.abs(values).max() > 127:
        return np.clip(values, -127, 127).astype(np.int8)
    return np.rint(values * (127.0 / max(float(np.abs(values).max()), 1e-30))).astype(np.int8)


_WRITERS: Mapping[str, Callable[[Network, Workload, Mapping[str, Value]], int]] = {
    "matmul": _matmul,
    "conv2d": _conv,
    "elementwise": _elementwise,
}
