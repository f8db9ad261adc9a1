"""What onnxruntime's attention has in many forms, as what is added to the logits: masks of padded keys, and biases."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto, helper

from fettle.graph.onnx.expansion.site import Site
from fettle.graph.onnx.protos import number

_HIDDEN = -10000.0
"""What onnxruntime adds to the logits of keys that are not seen, unless the node says another number."""


def hiding(site: Site, label: str, extents: tuple[int, int, int]) -> list[str]:
    """What hides the keys that a mask leaves out.

    Args:
        label: the input that is a mask of int32 or int64: ``[batch]``, the number of keys that are seen;
            ``[batch, keys]`` or ``[batch, queries, keys]``, which of them, by 1 and 0.
        extents: batch, queries, keys.

    Raises:
        NotUnderstood: the mask has another form.
    """
    batch, queries, keys = extents
    kind = site.kind(label)
    if kind is None or kind.element not in (TensorProto.INT32, TensorProto.INT64):
        raise site.refusal(f"{label} that is no tensor of integers")
    if kind.shape == (batch,):
        site.check_size(keys)
        dtype = helper.tensor_dtype_to_np_dtype(kind.element)
        seen = site.add("Less", site.constant(np.arange(keys, dtype=dtype)), site.reshaped(site[label], batch, 1, 1, 1))
    elif kind.shape == (batch, keys):
        seen = site.add("Cast", site.reshaped(site[label], batch, 1, 1, keys), to=TensorProto.BOOL)
    elif kind.shape == (batch, queries, keys):
        seen = site.add("Cast", site.reshaped(site[label], batch, 1, queries, keys), to=TensorProto.BOOL)
    else:
        raise site.refusal(f"{label} of shape {'unknown' if kind.shape is None else list(kind.shape)}")
    hidden = np.float32(number(site.node, "mask_filter_value", _HIDDEN))
    return [site.add("Where", seen, site.constant(np.float32(0.0)), site.constant(hidden))]


def bias(site: Site, extents: tuple[int, int, int, int]) -> list[str]:
    """The input ``attention_bias``, if there is one; ``extents`` are batch, heads, queries, keys.

    Raises:
        NotUnderstood: its shape is another, or not known.
    """
    if not site["attention_bias"]:
        return []
    shape = site.shape("attention_bias", 4)
    if any(a not in (1, b) for a, b in zip(shape[:2], extents[:2], strict=True)) or shape[2:] != extents[2:]:
        raise site.refusal(f"attention_bias of shape {list(shape)}")
    return [site["attention_bias"]]
