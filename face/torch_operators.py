"""Translations to ONNX that ``torch.onnx`` lacks, or makes more complicated than needed.

PyTorch's own of scaled_dot_product_attention takes four axes and equal numbers of heads alone; that of a rms_norm
without weights makes some of the size of its operand.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

_AXES = 4
"""Of the operands of ONNX's Attention: batch, heads, positions, elements."""


def translations(torch: Any) -> dict[Any, Callable[..., Any]]:
    """What ``torch.onnx.export`` takes as ``custom_translation_table``."""
    aten = torch.ops.aten
    return {aten.scaled_dot_product_attention.default: _attention, aten.rms_norm.default: _rms_norm}


def _operators() -> Any:
    """Functions that add ONNX's operators to the model being exported."""
    return importlib.import_module("onnxscript.onnx_opset").opset23


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """``softmax(scale · q·kᵀ + mask) · v`` over any leading axes, which are broadcast. Nothing is dropped.

    Heads that share keys need no copies of them: Attention, too, has fewer heads of keys than of queries.
    """
    op = _operators()
    rank = len(query.shape)
    if rank > _AXES:
        if not query.shape[:-2] == key.shape[:-2] == value.shape[:-2]:
            raise NotImplementedError("scaled_dot_product_attention of more than four axes that are broadcast")
        if attn_mask is not None and len(attn_mask.shape) >= _AXES:
            lead = op.Concat(op.Shape(query, end=-2), op.Constant(value_ints=[1, 1]), axis=0)
            attn_mask = _joined(op, op.Expand(attn_mask, lead))
        joined = (_joined(op, each) for each in (query, key, value))
        y = op.Attention(*joined, attn_mask, scale=scale, is_causal=is_causal)[0]
        return op.Reshape(y, op.Concat(op.Shape(query, end=-1), op.Shape(value, start=-1), axis=0))
    if rank < _AXES:
        front = op.Constant(value_ints=list(range(_AXES - rank)))
        query, key, value = (op.Unsqueeze(each, front) for each in (query, key, value))
    else:
        query, key, value = _of_one_batch(op, query, key, value)
    y = op.Attention(query, key, value, attn_mask, scale=scale, is_causal=is_causal)[0]
    return op.Squeeze(y, front) if rank < _AXES else y


def _rms_norm(input: Any, normalized_shape: Sequence[int], weight: Any = None, eps: float | None = None) -> Any:
    """``x / √(mean(x²) + eps) · weight`` over the last axes. By default, eps is the spacing of float32 at 1."""
    import onnx

    op = _operators()
    axis = -len(normalized_shape)
    if weight is None:
        one = onnx.helper.make_tensor("", onnx.TensorProto.FLOAT, [1], [1.0])
        weight = op.CastLike(op.ConstantOfShape(op.Shape(input, start=axis), value=one), input)
    return op.RMSNormalization(input, weight, axis=axis, epsilon=2.0**-23 if eps is None else eps)


def _joined(op: Any, operand: Any) -> Any:
    """The axes before the last three as one."""
    return op.Reshape(operand, op.Concat(op.Constant(value_ints=[-1]), op.Shape(operand, start=-3), axis=0))


def _of_one_batch(op: Any, query: Any, key: Any, value: Any) -> tuple[Any, Any, Any]:
    """Four axes each, those that stand for several batches copied; keys and values with as many heads."""
    operands = [query, key, value]
    shapes = [each.shape for each in operands]  # of what is expanded none is known here
    for axis in (0, 1):
        extents = [shape[axis] for shape in shapes]
        whole = next((i for i, extent in enumerate(extents) if extent != 1), 0)
        for i, extent in enumerate(extents):
            shared = axis == 1 and i > 0 and extents[1] == extents[2] == 1  # one head of keys and values for all
            if extent == 1 and extents[whole] != 1 and not shared:
                ones = [op.Constant(value_ints=[1] * count) for count in (axis, _AXES - 1 - axis) if count]
                size = op.Shape(operands[whole], start=axis, end=axis + 1)
                shape = op.Concat(*(ones[:1] if axis else []), size, *ones[-1:], axis=0)
                operands[i] = op.Expand(operands[i], shape)
    query, key, value = operands
    return query, key, value
