"""Runs an int8 TFLite network in NumPy: the operators that :mod:`tflite` writes, read back from the file's own tables.

Sums are exact; a result leaves as ``round(value / scale)``, halves away from zero, within -128 … 127.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import attrs
import numpy as np
from ethosu.vela.tflite.BuiltinOperator import BuiltinOperator
from ethosu.vela.tflite.ConcatenationOptions import ConcatenationOptions
from ethosu.vela.tflite.Conv2DOptions import Conv2DOptions
from ethosu.vela.tflite.Model import Model
from ethosu.vela.tflite.Padding import Padding
from ethosu.vela.tflite.TensorType import TensorType
from numpy.typing import NDArray

from fettle.graph.errors import Internal

Array = NDArray[Any]

_TYPES = {TensorType.INT8: np.int8, TensorType.INT32: np.int32}


@attrs.frozen(eq=False)
class Quantized:
    """Integers and what they stand for: ``values · scale``."""

    values: Array
    scale: float

    @property
    def sums(self) -> Array:
        """The integers as float64, in which their sums of products are exact."""
        return self.values.astype(np.float64)


def input_shapes(network: bytes) -> list[tuple[int, ...]]:
    """Of the network's inputs."""
    graph = Model.GetRootAs(network).Subgraphs(0)
    return [tuple(graph.Tensors(number).ShapeAsNumpy().tolist()) for number in graph.InputsAsNumpy()]


def run(network: bytes, inputs: Sequence[Array]) -> Quantized:
    """The network's one output for int8 inputs of its shapes.

    Raises:
        Internal: it has an operator that is not known here, or tensors do not fit each other.
    """
    model = Model.GetRootAs(network)
    graph = model.Subgraphs(0)
    known = {number: _constant(model, graph.Tensors(number)) for number in range(graph.TensorsLength())}
    for number, values in zip(graph.InputsAsNumpy().tolist(), inputs, strict=True):
        known[number] = attrs.evolve(known[number], values=values)
    for place in range(graph.OperatorsLength()):
        operator = graph.Operators(place)
        code = model.OperatorCodes(operator.OpcodeIndex()).BuiltinCode()
        if code not in _OPERATORS:
            raise Internal(f"the network has an operator of code {code}, which is not known here")
        (output,) = operator.OutputsAsNumpy().tolist()
        real = _OPERATORS[code]([known[n] for n in operator.InputsAsNumpy().tolist()], operator)
        shape = tuple(graph.Tensors(output).ShapeAsNumpy().tolist())
        if real.shape != shape:
            raise Internal(f"an operator gives {real.shape} where the network says {shape}")
        known[output] = attrs.evolve(known[output], values=_to_int8(real / known[output].scale))
    (result,) = graph.OutputsAsNumpy().tolist()
    return known[result]


def _constant(model: Any, tensor: Any) -> Quantized:
    """A tensor with its contents; without values if it has none."""
    buffer = model.Buffers(tensor.Buffer())
    scale = float(tensor.Quantization().ScaleAsNumpy()[0])
    if buffer.DataLength() == 0:
        return Quantized(np.empty(0), scale)
    values = np.frombuffer(buffer.DataAsNumpy().tobytes(), _TYPES[tensor.Type()])
    return Quantized(values.reshape(tensor.ShapeAsNumpy()), scale)


def _to_int8(values: Array) -> Array:
    nearest = np.sign(values) * np.floor(np.abs(values) + 0.5)
    return np.asarray(np.clip(nearest, -128, 127).astype(np.int8))


def _fully_connected(operands: Sequence[Quantized], operator: Any) -> Array:
    x, weight, bias = operands
    return np.asarray((x.sums @ weight.sums.T) * (x.scale * weight.scale) + bias.sums * bias.scale)


def _conv(operands: Sequence[Quantized], operator: Any) -> Array:
    x, weight, bias = operands
    options = Conv2DOptions()
    options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
    stride = options.StrideH()
    size = weight.values.shape[1:3]
    padding = [(0, 0)] * 4
    if options.Padding() == Padding.SAME:
        for axis, kernel in enumerate(size, 1):
            extent = x.values.shape[axis]
            missing = max((-(-extent // stride) - 1) * stride + kernel - extent, 0)
            padding[axis] = (missing // 2, missing - missing // 2)
    padded = np.pad(x.sums, padding)
    windows: Array = np.lib.stride_tricks.sliding_window_view(padded, size, axis=(1, 2))  # type: ignore[call-overload]
    windows = windows[:, ::stride, ::stride]  # n, h, w, c, kh, kw
    sums = np.tensordot(windows, weight.sums, axes=((3, 4, 5), (3, 1, 2)))
    return np.asarray(sums * (x.scale * weight.scale) + bias.sums * bias.scale)


def _concatenate(operands: Sequence[Quantized], operator: Any) -> Array:
    options = ConcatenationOptions()
    options.Init(operator.BuiltinOptions().Bytes, operator.BuiltinOptions().Pos)
    return np.concatenate([part.sums * part.scale for part in operands], axis=options.Axis())


def _binary(function: Callable[[Array, Array], Array]) -> Callable[[Sequence[Quantized], Any], Array]:
    def compute(operands: Sequence[Quantized], operator: Any) -> Array:
        one, two = (operand.sums * operand.scale for operand in operands)
        return function(one, two)

    return compute


_OPERATORS: Mapping[int, Callable[[Sequence[Quantized], Any], Array]] = {
    BuiltinOperator.FULLY_CONNECTED: _fully_connected,
    BuiltinOperator.CONV_2D: _conv,
    BuiltinOperator.CONCATENATION: _concatenate,
    BuiltinOperator.ADD: _binary(np.add),
    BuiltinOperator.SUB: _binary(np.subtract),
    BuiltinOperator.MUL: _binary(np.multiply),
}
