"""Products of dequantised tensors with constant weights, as products of their codes."""

from __future__ import annotations

import math

import attrs
import numpy as np
from onnx import NodeProto, TensorProto, helper

from fettle.graph.onnx.protos import integer, number
from fettle.graph.onnx.rewriting.edges import to_codes
from fettle.graph.onnx.rewriting.steps import Steps, is_plain, is_usual
from fettle.graph.onnx.rewriting.users import Users
from fettle.graph.onnx.rewriting.workbench import Chain, Workbench
from fettle.graph.onnx.windows import CONVOLUTION


@attrs.frozen(eq=False)
class _Weight:
    """A constant of int8 codes whose zero point is 0.

    Attributes:
        name: of the codes.
        scales: one number for each output channel, float32.
        turned: it is ``[N, K]``.
    """

    name: str
    scales: np.ndarray
    turned: bool = False


@attrs.frozen(eq=False)
class _End:
    """Where the result of a product becomes codes: the nodes it goes through, their bounds in its units."""

    nodes: tuple[NodeProto, ...]
    steps: Steps
    low: float
    high: float

    @property
    def bounds(self) -> tuple[int, int]:
        """Of the codes. Rounding keeps order, so it may come first."""
        return self._code(self.low), self._code(self.high)

    def _code(self, number: float) -> int:
        code = np.rint(np.float32(number / self.steps.step)) + self.steps.zero
        return int(min(max(code, self.steps.lowest), self.steps.highest))


def rewritten_product(
    node: NodeProto, users: Users, bench: Workbench
) -> tuple[list[NodeProto], list[NodeProto]] | None:
    """Conv, MatMul or Gemm over codes with all that makes its result codes again, if that follows; and the nodes that
    take part in it besides. None for other nodes, and where steps are not known."""
    if node.domain or node.op_type not in ("Conv", "MatMul", "Gemm") or len(node.input) < 2:
        return None
    source = users.maker(node.input[0], "DequantizeLinear")
    x, weight = Steps.of(source, bench), _weight(node, users, bench)
    if source is None or x is None or weight is None:
        return None
    bias = np.zeros(0, np.float32)
    if len(node.input) > 2 and node.input[2]:
        found = _numbers(node.input[2], users, bench)
        if found is None or found.size not in (1, weight.scales.size) or any(size != 1 for size in found.shape[:-1]):
            return None
        bias = np.broadcast_to(found.reshape(-1), weight.scales.shape)
    end = _end(node, users, bench)
    unit = 1.0 if end is None else end.steps.step
    rank = len(bench.constants[weight.name][1])
    shape = (-1, *(1 for _ in range(rank - 2))) if node.op_type == "Conv" else (-1,)

    def row(name: str, values: np.ndarray) -> str:
        return bench.constant(f"{node.name}_{name}", (values / unit).astype(np.float32).reshape(shape))

    product = _product(node, source.input[0], weight, x.zero_name, bench)
    chain = Chain(bench, product[-1].output[0], node.name).then("Cast", to=TensorProto.FLOAT)
    chain.then("Mul", row("scale", weight.scales.astype(np.float64) * x.step))
    if bias.size:
        chain.then("Add", row("bias", bias.astype(np.float64)))
    if end is None:
        chain.nodes[-1].output[0] = node.output[0]
        return [*product, *chain.nodes], []
    zeros = (weight.scales.size, *shape[1:])
    nodes = to_codes(chain, end.nodes[-1].output[0], end.steps, zeros, bench, end.bounds)
    return [*product, *nodes], list(end.nodes)


def _product(node: NodeProto, x: str, weight: _Weight, zero: str, bench: Workbench) -> list[NodeProto]:
    result = [bench.fresh(f"{node.name}_sums")]
    if node.op_type == "Conv":
        product = helper.make_node("ConvInteger", [x, weight.name, zero], result, name=node.name)
        product.attribute.extend(attribute for attribute in node.attribute if attribute.name in CONVOLUTION)
        return [product]
    nodes, right = [], weight.name
    if weight.turned:
        right = bench.fresh(f"{weight.name}_transposed")
        nodes.append(helper.make_node("Transpose", [weight.name], [right], perm=[1, 0]))
    return [*nodes, helper.make_node("MatMulInteger", [x, right, zero], result, name=node.name)]


def _weight(node: NodeProto, users: Users, bench: Workbench) -> _Weight | None:
    source = users.maker(node.input[1], "DequantizeLinear")
    if not is_plain(source) or source.input[0] not in bench.constants:
        return None
    element, shape = bench.constants[source.input[0]]
    ranks, axis = ((3, 4), 0) if node.op_type == "Conv" else ((2,), 1)
    if node.op_type == "Gemm":
        if integer(node, "transA", 0) or number(node, "alpha", 1.0) != 1.0 or number(node, "beta", 1.0) != 1.0:
            return None
        axis = 0 if integer(node, "transB", 0) else 1
    scales, zeros = bench.value(source.input[1]), bench.value(source.input[2])
    if element != TensorProto.INT8 or len(shape) not in ranks or scales is None or zeros is None or zeros.any():
        return None
    along = integer(source, "axis", 1) % len(shape) == axis
    if scales.dtype != np.float32 or not (scales.size == 1 or (along and scales.size == shape[axis])):
        return None
    turned = node.op_type == "Gemm" and axis == 0
    return _Weight(source.input[0], np.broadcast_to(scales.reshape(-1), (shape[axis],)), turned)


def _numbers(name: str, users: Users, bench: Workbench) -> np.ndarray | None:
    """A constant of floats, or what codes along one axis stand for whose zero point is 0."""
    known = bench.value(name)
    if known is not None:
        return np.asarray(known)
    source = users.maker(name, "DequantizeLinear")
    if source is None or not is_usual(source):
        return None
    codes, scales, *zeros = (bench.value(part) for part in source.input)
    if codes is None or scales is None or any(zero is None or zero.any() for zero in zeros):
        return None
    if scales.size not in (1, codes.size):
        return None
    return np.asarray((codes.reshape(-1).astype(np.float64) * scales.reshape(-1)).reshape(codes.shape))


def _end(node: NodeProto, users: Users, bench: Workbench) -> _End | None:
    """QuantizeLinear after the node, perhaps with Relu and Clip between."""
    nodes: list[NodeProto] = []
    low, high = -math.inf, math.inf
    reader = users.only_reader(node.output[0])
    while reader is not None and not reader.domain and reader.op_type in ("Relu", "Clip"):
        limits = _limits(reader, bench)
        if limits is None:
            return None
        low, high = (min(max(limit, limits[0]), limits[1]) for limit in (low, high))
        nodes.append(reader)
        reader = users.only_reader(reader.output[0])
    steps = Steps.of(reader, bench) if reader is not None and reader.op_type == "QuantizeLinear" else None
    if reader is None or steps is None or reader.input[0] != (nodes[-1] if nodes else node).output[0]:
        return None
    return None if _meets_a_row(reader.output[0], users, bench) else _End((*nodes, reader), steps, low, high)


def _meets_a_row(codes: str, users: Users, bench: Workbench) -> bool:
    """Whether codes are only made numbers again, and a constant with a number for each column goes on from there: one
    epilogue does all that, where elementwise workloads know tensors of one shape alone."""
    back = users.only_reader(codes)
    if back is None or back.op_type != "DequantizeLinear":
        return False
    after = users.only_reader(back.output[0])
    if after is None or after.op_type not in ("Add", "Sub", "Mul"):
        return False
    sources = [(users.maker(name, "DequantizeLinear"), name) for name in after.input]
    names = [name if maker is None else maker.input[0] for maker, name in sources]
    return any(math.prod(bench.constants[name][1]) > 1 for name in names if name in bench.constants)


def _limits(node: NodeProto, bench: Workbench) -> tuple[float, float] | None:
    """Bounds of a Relu or Clip; None where they are not known."""
    if node.op_type == "Relu":
        return 0.0, math.inf
    if node.attribute:
        return number(node, "min", -math.inf), number(node, "max", math.inf)
    names = [*node.input[1:], "", ""][:2]
    low, high = (
        np.asarray(default) if not name else bench.value(name)
        for name, default in zip(names, (-math.inf, math.inf), strict=True)
    )
    if low is None or high is None or (low.size, high.size) != (1, 1):
        return None
    return float(low.reshape(())), float(high.reshape(()))
