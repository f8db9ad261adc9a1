"""Workloads as int8 networks, and the choices there are in writing them."""

from __future__ import annotations

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


def unsupported(workload: Workload) -> str:
    """Why a workload cannot be written as a network; empty if it can."""
    v = workload.values
    if workload.operator == "matmul":
        if v["weight"] is None or v["batch"] != 1 or v["epilogue"] is not None:
            return "products for Ethos-U have a constant weight, no batch and no epilogue"
        return ""
    if workload.operator == "elementwise":
        return "" if _BINARY.fullmatch(str(v["expr"])) else "elementwise for Ethos-U is x0+x1, x0-x1 or x0*x1"
    if workload.operator == "conv2d":
        same = v["stride"] == 1 and v["kh"] == v["kw"] and 2 * v["pad"] == v["kh"] - 1
        if not (same or v["pad"] == 0) or v["n"] != 1:
            return "convolutions for Ethos-U have one image, and no padding or what keeps its size"
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


def _matmul(network: Network, workload: Workload, choice: Mapping[str, Value]) -> int:
    m, k = workload["m"], workload["k"]
    weight = _weight(workload)
    parts = np.split(weight, int(choice["split"]))
    if choice["form"] == FULLY_CONNECTED:
        x = network.input(m, k)
        results = [network.fully_connected(x, part) for part in parts]
    else:
        tall = max(d for d in range(1, int(m**0.5) + 1) if m % d == 0) if choice["form"] == CONV_SQUARE else 1
        x = network.input(1, tall, m // tall, k)
        results = [network.conv(x, part[:, None, None, :], 1, True) for part in parts]
    return results[0] if len(results) == 1 else network.concatenate(results)


def _weight(workload: Workload) -> np.ndarray:
    """``[n, k]`` int8."""
    constant = operands(workload, _SEED)[1]
    plain = constant.dequantise() if isinstance(constant, QuantizedWeight) else np.asarray(constant, np.float64).T
    return _to_int8(plain)


def _conv(network: Network, workload: Workload, choice: Mapping[str, Value]) -> int:
    v = workload.values
    weight = np.asarray(operands(workload, _SEED)[1], np.float64)
    x = network.input(1, v["h"], v["w"], v["c"])
    return network.conv(x, _to_int8(weight.transpose(0, 2, 3, 1)), v["stride"], v["pad"] > 0)


def _elementwise(network: Network, workload: Workload, choice: Mapping[str, Value]) -> int:
    match = _BINARY.fullmatch(str(workload["expr"]))
    assert match is not None
    shape = (1, *workload["shape"]) if len(workload["shape"]) < 4 else tuple(workload["shape"])
    return network.elementwise(match[1], network.input(*shape), network.input(*shape))


def _to_int8(values: np.ndarray) -> np.ndarray:
    if np.abs(values).max() > 127:
        return np.asarray(np.clip(values, -127, 127))
    return np.asarray(np.rint(values * (127.0 / max(float(np.abs(values).max()), 1e-30))))


_WRITERS: Mapping[str, Callable[[Network, Workload, Mapping[str, Value]], int]] = {
    "matmul": _matmul,
    "conv2d": _conv,
    "elementwise": _elementwise,
}
