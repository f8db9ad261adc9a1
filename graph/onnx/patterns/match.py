"""Which workload one node is, if any; otherwise why not."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from onnx import NodeProto, TensorProto

from fettle.graph.errors import InvalidWorkload
from fettle.graph.formats import Format
from fettle.graph.onnx.nbits import NBits
from fettle.graph.onnx.patterns.activations import ELEMENTWISE, term_of
from fettle.graph.onnx.patterns.chains import Term
from fettle.graph.onnx.patterns.facts import Facts, Match, NoWorkload, is_row
from fettle.graph.onnx.patterns.products import conv, conv_integer, matmul_integer
from fettle.graph.onnx.protos import FETTLE, MICROSOFT, integer, number
from fettle.graph.workload import Workload


def match(node: NodeProto, facts: Facts) -> Match:
    """The workload a node is.

    Raises:
        NoWorkload: it is none; the message says why.
    """
    matcher = _MATCHERS.get((node.domain, node.op_type))
    if matcher is None:
        prefix = f"{node.domain}." if node.domain else ""
        raise NoWorkload(f"no workload for operator {prefix}{node.op_type}")
    try:
        return matcher(node, facts)
    except InvalidWorkload as error:
        raise NoWorkload(str(error)) from None


def _rows(shape: tuple[int, ...]) -> tuple[int, int]:
    return math.prod(shape[:-1]), shape[-1] if shape else 1


def _matmul(node: NodeProto, facts: Facts) -> Match:
    left, right = node.input
    x, w = facts.shape(left), facts.shape(right)
    kind = {"weight": "f32"} if right in facts.constants else {"rhs": "f32"}
    x_rows, w_batch = x[:-1], w[:-2]
    k, n = (w[-2], w[-1]) if len(w) > 1 else (w[0], 1)
    if math.prod(w_batch) == 1:
        workload = Workload.of("matmul", m=math.prod(x_rows), n=n, k=k, act="f32", **kind)
    elif x[:-2] == w_batch:
        workload = Workload.of("matmul", batch=math.prod(w_batch), m=x[-2], n=n, k=k, act="f32", **kind)
    else:
        raise NoWorkload(f"batch dimensions {list(x[:-2])} and {list(w_batch)} are broadcast")
    return Match(workload, ((left,), (right,)))


def _matmul_nbits(node: NodeProto, facts: Facts) -> Match:
    nbits = NBits.of(node)
    names = [*node.input, "", "", "", ""][:5]
    x = facts.shape(names[0])
    facts.shape(names[2])  # scales of another type than float32 come with activations of that type
    if names[4]:
        raise NoWorkload("MatMulNBits with g_idx permutes K; only grouped order is tuned")
    operands = tuple(name for name in names[1:4] if name)
    for name in operands:
        if name not in facts.constants:
            raise NoWorkload(f"quantised weight {name!r} is not a constant")
    if names[3] and facts.types[names[3]].element != TensorProto.UINT8:
        raise NoWorkload("zero points of MatMulNBits that are not integers")
    weight = Format(f"u{nbits.bits}", nbits.block, bool(names[3]), "f32")
    compute = "i8" if nbits.accuracy == 4 else "f32"
    workload = Workload.of(
        "matmul", m=math.prod(x[:-1]), n=nbits.n, k=nbits.k, act="f32", weight=weight, compute=compute
    )
    return Match(workload, ((names[0],), operands))


def _softmax(node: NodeProto, facts: Facts) -> Match:
    shape = facts.shape(node.input[0])
    axis = integer(node, "axis", -1)
    if axis % max(len(shape), 1) != len(shape) - 1:
        raise NoWorkload(f"Softmax over axis {axis} of {list(shape)}; only the last axis is tuned")
    rows, cols = _rows(shape)
    return Match(Workload.of("softmax", rows=rows, cols=cols, act="f32"), ((node.input[0],),))


def _rms_normalization(node: NodeProto, facts: Facts) -> Match:
    rows, cols = _normalised_rows(node, facts)
    return Match(_normalisation("rmsnorm", node, rows, cols), ((node.input[0],), (node.input[1],)))


def _normalised_rows(node: NodeProto, facts: Facts) -> tuple[int, int]:
    """Rows and columns of what a normalisation reads, whose other inputs are constants of one row."""
    shape, axis = facts.shape(node.input[0]), integer(node, "axis", -1)
    if not -len(shape) <= axis < len(shape):
        raise NoWorkload(f"{node.op_type} from axis {axis} of {list(shape)}")
    row = shape[axis:]
    cols = math.prod(row)
    for name in filter(None, node.input[1:]):
        if name not in facts.constants:
            raise NoWorkload(f"{name!r} is not a constant")
        constant = facts.shape(name)
        if constant != row and not is_row(constant, cols):
            raise NoWorkload(f"{name!r} of shape {list(constant)} is broadcast over {cols} columns")
    return math.prod(shape) // cols, cols


def _normalisation(operator: str, node: NodeProto, rows: int, cols: int) -> Workload:
    epsilon = float(np.float32(number(node, "epsilon", 1e-5)))
    return Workload.of(operator, rows=rows, cols=cols, act="f32", eps=shortest(epsilon))


def _attention(node: NodeProto, facts: Facts) -> Match:
    names = [*node.input, *[""] * 7][:7]
    if any(names[4:]):
        raise NoWorkload("Attention with a past or padded keys")
    if sum(bool(name) for name in node.output) != 1:
        raise NoWorkload("Attention with more results than one")
    if number(node, "softcap", 0.0):
        raise NoWorkload("Attention with softcap")
    if any(integer(node, f"{side}_window_size", -1) != -1 for side in ("left", "right")):
        raise NoWorkload("Attention with a window")
    if any(len(facts.shape(name)) != 4 for name in names[:3]):
        raise NoWorkload("Attention over [batch, sequence, heads * dim]; only [batch, heads, sequence, dim] is tuned")
    scale = number(node, "scale", facts.shape(names[0])[3] ** -0.5)
    return attention(names[:4], scale, bool(integer(node, "is_causal", 0)), facts)


def attention(names: Sequence[str], scale: float, causal: bool, facts: Facts) -> Match:
    """Attention as a workload.

    Args:
        names: queries, keys and values ``[batch, heads, sequence, dim]``, or without the batch; and what is added to
            the logits, or nothing.
        scale: factor of the logits.
        causal: as ONNX has it, aligned with the first key.

    Raises:
        NoWorkload: it is none.
    """
    (batch, heads, q, dim), keys, values = (four_axes(name, facts) for name in names[:3])
    _, kv_heads, kv, _ = keys
    if keys != values:
        raise NoWorkload(f"Attention with keys {list(keys)} and values {list(values)}")
    if causal and q != kv:  # a workload aligns the last query with the last key
        raise NoWorkload(f"causal Attention of {q} queries over {kv} keys, aligned with the first key")
    mask = names[3]
    if mask in facts.causal and facts.shape(mask)[-2:] == (q, kv):
        causal, mask = True, ""
    fields: dict[str, object] = {"batch": batch, "heads": heads, "kv_heads": kv_heads, "q": q, "kv": kv, "dim": dim}
    if abs(scale - dim**-0.5) > 1e-6 * dim**-0.5:
        fields["scale"] = scale
    if mask:
        shape = facts.shape(mask)
        fields["mask"] = "x".join(map(str, (*[1] * (4 - len(shape)), *shape)))
    workload = Workload.of("attention", **fields, act="f32", causal="true" if causal else "false")
    return Match(workload, tuple((name,) for name in (*names[:3], mask) if name))


def four_axes(name: str, facts: Facts) -> tuple[int, ...]:
    """Shape of an operand of attention ``[batch, heads, sequence, dim]``, or without the batch, which is one then."""
    shape = facts.shape(name)
    return (*[1] * (4 - len(shape)), *shape)


def _layer_normalization(node: NodeProto, facts: Facts) -> Match:
    if any(node.output[1:]):
        raise NoWorkload("LayerNormalization whose mean or deviation is used")
    rows, cols = _normalised_rows(node, facts)
    if len(node.input) < 3 or not node.input[2]:
        raise NoWorkload("LayerNormalization without a bias")
    return Match(_normalisation("layernorm", node, rows, cols), tuple((name,) for name in node.input))


def shortest(value: float) -> str:
    """The shortest decimal that is this float32: ONNX stores 1e-5 as 9.99999974e-06."""
    return repr(float(str(np.float32(value))))


def _elementwise(node: NodeProto, facts: Facts) -> Match:
    result = facts.shape(node.output[0])
    arguments: list[str | float | None] = []
    for name in node.input:
        shape = facts.shape(name) if name else ()
        if not name:
            arguments.append(None)
        elif name in facts.scalars and shape != result:
            if not math.isfinite(facts.scalars[name]):
                raise NoWorkload(f"constant {name!r} is not finite")
            arguments.append(facts.scalars[name])
        elif shape == result:
            arguments.append(name)
        else:
            raise NoWorkload(f"operand {name!r} of shape {list(shape)} is broadcast to {list(result)}")
    term = term_of(node, arguments)
    if term is None or not term.tensors():
        raise NoWorkload(f"no expression says this {node.op_type}")
    return elementwise(term, result)


def elementwise(term: Term, shape: Sequence[int]) -> Match:
    """A term over tensors of one shape as a workload; leading axes are joined to rows."""
    rows, cols = _rows(tuple(shape))
    workload = Workload.of("elementwise", shape=f"{rows}x{cols}", act="f32", expr=term.text())
    return Match(workload, tuple((name,) for name in term.tensors()), term)


_MATCHERS: dict[tuple[str, str], Callable[[NodeProto, Facts], Match]] = {
    ("", "MatMul"): _matmul,
    ("", "Conv"): conv,
    ("", "ConvInteger"): conv_integer,
    ("", "MatMulInteger"): matmul_integer,
    (MICROSOFT, "MatMulNBits"): _matmul_nbits,
    ("", "Softmax"): _softmax,
    ("", "Attention"): _attention,
    ("", "LayerNormalization"): _layer_normalization,
    ("", "RMSNormalization"): _rms_normalization,
    (FETTLE, "RMSNormalization"): _rms_normalization,
    **{("", operator): _elementwise for operator in ELEMENTWISE},
    (FETTLE, "Gelu"): _elementwise,
    (FETTLE, "Swish"): _elementwise,
}
