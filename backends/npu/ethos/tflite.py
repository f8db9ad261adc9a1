"""Writes the few TFLite operators that are compiled for Ethos-U: int8 tensors, one subgraph, flatbuffers throughout.

The table constructors are those of the schema that Vela brings along.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
import flatbuffers
import numpy as np
from ethosu.vela.tflite import (
    AddOptions,
    Buffer,
    ConcatenationOptions,
    Conv2DOptions,
    FullyConnectedOptions,
    Model,
    MulOptions,
    Operator,
    OperatorCode,
    QuantizationParameters,
    SubGraph,
    SubOptions,
    Tensor,
)
from ethosu.vela.tflite.BuiltinOperator import BuiltinOperator
from ethosu.vela.tflite.BuiltinOptions import BuiltinOptions
from ethosu.vela.tflite.Padding import Padding
from ethosu.vela.tflite.TensorType import TensorType

_VERSION = 3


@attrs.define
class _Node:
    code: int
    inputs: list[int]
    output: int
    options_type: int
    write_options: Callable[[Any], int]


class Network:
    """A network under construction; tensors are numbers."""

    def __init__(self) -> None:
        self._tensors: list[tuple[tuple[int, ...], int, bytes | None, float]] = []
        self._nodes: list[_Node] = []
        self._inputs: list[int] = []

    def input(self, scale: float, *shape: int) -> int:
        """An int8 input; one step of it stands for ``scale``."""
        self._inputs.append(self._tensor(shape, scale))
        return self._inputs[-1]

    def constant(self, values: np.ndarray, scale: float) -> int:
        """An int8 constant."""
        return self._tensor(values.shape, scale, TensorType.INT8, np.ascontiguousarray(values, np.int8).tobytes())

    def fully_connected(self, x: int, weight: int, scale: float) -> int:
        """``[m, k] · [n, k]ᵀ``."""
        rows, outputs = self._tensors[x][0][0], self._tensors[weight][0][0]

        def options(b: Any) -> int:
            FullyConnectedOptions.Start(b)
            return int(FullyConnectedOptions.End(b))

        inputs = [x, weight, self._bias(x, weight)]
        kind = BuiltinOptions.FullyConnectedOptions
        return self._node(BuiltinOperator.FULLY_CONNECTED, inputs, (rows, outputs), scale, kind, options)

    def conv(self, x: int, weight: int, stride: int, same: bool, scale: float) -> int:
        """Convolution of ``[1, h, w, c]`` with ``[oc, kh, kw, c]``."""
        _, h, w, _ = self._tensors[x][0]
        oc, kh, kw, _ = self._tensors[weight][0]
        sides = [-(-s // stride) if same else (s - k) // stride + 1 for s, k in ((h, kh), (w, kw))]

        def options(b: Any) -> int:
            Conv2DOptions.Start(b)
            Conv2DOptions.AddPadding(b, Padding.SAME if same else Padding.VALID)
            Conv2DOptions.AddStrideW(b, stride)
            Conv2DOptions.AddStrideH(b, stride)
            Conv2DOptions.AddDilationWFactor(b, 1)
            Conv2DOptions.AddDilationHFactor(b, 1)
            return int(Conv2DOptions.End(b))

        inputs = [x, weight, self._bias(x, weight)]
        shape = (1, sides[0], sides[1], oc)
        return self._node(BuiltinOperator.CONV_2D, inputs, shape, scale, BuiltinOptions.Conv2DOptions, options)

    def elementwise(self, operation: str, one: int, two: int, scale: float) -> int:
        """``+``, ``-`` or ``*`` of two tensors of one shape."""
        code, table, kind = {
            "+": (BuiltinOperator.ADD, AddOptions, BuiltinOptions.AddOptions),
            "-": (BuiltinOperator.SUB, SubOptions, BuiltinOptions.SubOptions),
            "*": (BuiltinOperator.MUL, MulOptions, BuiltinOptions.MulOptions),
        }[operation]

        def options(b: Any) -> int:
            table.Start(b)
            return int(table.End(b))

        return self._node(code, [one, two], self._tensors[one][0], scale, kind, options)

    def concatenate(self, parts: Sequence[int]) -> int:
        """Along the last axis; parts have one scale."""
        shapes = [self._tensors[part][0] for part in parts]
        shape = (*shapes[0][:-1], sum(s[-1] for s in shapes))

        def options(b: Any) -> int:
            ConcatenationOptions.Start(b)
            ConcatenationOptions.AddAxis(b, len(shape) - 1)
            return int(ConcatenationOptions.End(b))

        kind = BuiltinOptions.ConcatenationOptions
        scale = self._tensors[parts[0]][3]
        return self._node(BuiltinOperator.CONCATENATION, list(parts), shape, scale, kind, options)

    def write(self, outputs: Sequence[int]) -> bytes:
        """The file."""
        b = flatbuffers.Builder(1 << 20)
        codes = sorted({node.code for node in self._nodes})
        buffers = [_buffer(b, None)]
        tensors = []
        for number, (shape, kind, data, scale) in enumerate(self._tensors):
            index = 0
            if data is not None:
                buffers.append(_buffer(b, data))
                index = len(buffers) - 1
            tensors.append(_tensor(b, f"t{number}", shape, kind, index, scale))
        operators = [_operator(b, node, codes.index(node.code)) for node in self._nodes]
        tables = _offsets(b, SubGraph.StartTensorsVector, tensors)
        inputs, results = b.CreateNumpyVector(_i32(self._inputs)), b.CreateNumpyVector(_i32(outputs))
        nodes = _offsets(b, SubGraph.StartOperatorsVector, operators)
        SubGraph.Start(b)
        SubGraph.AddTensors(b, tables)
        SubGraph.AddInputs(b, inputs)
        SubGraph.AddOutputs(b, results)
        SubGraph.AddOperators(b, nodes)
        graph = _offsets(b, Model.StartSubgraphsVector, [SubGraph.End(b)])
        listed = _offsets(b, Model.StartOperatorCodesVector, [_code(b, code) for code in codes])
        contents = _offsets(b, Model.StartBuffersVector, buffers)
        Model.Start(b)
        Model.AddVersion(b, _VERSION)
        Model.AddOperatorCodes(b, listed)
        Model.AddSubgraphs(b, graph)
        Model.AddBuffers(b, contents)
        b.Finish(Model.End(b), file_identifier=b"TFL3")
        return bytes(b.Output())

    def _tensor(
        self, shape: tuple[int, ...], scale: float, kind: int = TensorType.INT8, data: bytes | None = None
    ) -> int:
        self._tensors.append((shape, kind, data, scale))
        return len(self._tensors) - 1

    def _bias(self, x: int, weight: int) -> int:
        """Zeros, at the scale that sums of products have."""
        count, scale = self._tensors[weight][0][0], self._tensors[x][3] * self._tensors[weight][3]
        return self._tensor((count,), scale, TensorType.INT32, bytes(4 * count))

    def _node(
        self,
        code: int,
        inputs: list[int],
        shape: tuple[int, ...],
        scale: float,
        kind: int,
        options: Callable[[Any], int],
    ) -> int:
        output = self._tensor(shape, scale)
        self._nodes.append(_Node(code, inputs, output, kind, options))
        return output


def _i32(values: Sequence[int]) -> np.ndarray:
    return np.array(values, np.int32)


def _offsets(b: Any, start: Callable[[Any, int], Any], offsets: Sequence[int]) -> int:
    start(b, len(offsets))
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _buffer(b: Any, data: bytes | None) -> int:
    vector = None
    if data is not None:
        b.StartVector(1, len(data), 16)  # as CreateByteVector, which does not align
        b.head -= len(data)
        b.Bytes[b.head : b.head + len(data)] = data
        vector = b.EndVector()
    Buffer.Start(b)
    if vector is not None:
        Buffer.AddData(b, vector)
    return int(Buffer.End(b))


def _tensor(b: Any, name: str, shape: tuple[int, ...], kind: int, buffer: int, scale: float) -> int:
    text, extents = b.CreateString(name), b.CreateNumpyVector(_i32(shape))
    scales = b.CreateNumpyVector(np.array([scale], np.float32))
    zeros = b.CreateNumpyVector(np.array([0], np.int64))
    QuantizationParameters.Start(b)
    QuantizationParameters.AddScale(b, scales)
    QuantizationParameters.AddZeroPoint(b, zeros)
    quantization = QuantizationParameters.End(b)
    Tensor.Start(b)
    Tensor.AddShape(b, extents)
    Tensor.AddType(b, kind)
    Tensor.AddBuffer(b, buffer)
    Tensor.AddName(b, text)
    Tensor.AddQuantization(b, quantization)
    return int(Tensor.End(b))


def _operator(b: Any, node: _Node, code: int) -> int:
    options = node.write_options(b)
    inputs, outputs = b.CreateNumpyVector(_i32(node.inputs)), b.CreateNumpyVector(_i32([node.output]))
    Operator.Start(b)
    Operator.AddOpcodeIndex(b, code)
    Operator.AddInputs(b, inputs)
    Operator.AddOutputs(b, outputs)
    Operator.AddBuiltinOptionsType(b, node.options_type)
    Operator.AddBuiltinOptions(b, options)
    return int(Operator.End(b))


def _code(b: Any, code: int) -> int:
    OperatorCode.Start(b)
    OperatorCode.AddDeprecatedBuiltinCode(b, min(code, 127))
    OperatorCode.AddBuiltinCode(b, code)
    OperatorCode.AddVersion(b, 1)
    return int(OperatorCode.End(b))
