"""onnxruntime's MultiHeadAttention, which has its projections' bias inside, in terms of ONNX's operators."""

from __future__ import annotations

import math

from fettle.graph.onnx.expansion.padding import bias, hiding
from fettle.graph.onnx.expansion.past import past_length, presents
from fettle.graph.onnx.expansion.site import Site
from fettle.graph.onnx.protos import integer, number

INPUTS = (
    "query", "key", "value", "bias", "key_padding_mask", "attention_bias", "past_key", "past_value",
    "past_sequence_length", "cache_indirection",
)  # fmt: skip

_ATTRIBUTES = ("num_heads", "scale", "unidirectional", "mask_filter_value")


def expand(site: Site) -> bool:
    """Write the node as concatenations and an attention in pieces.

    Raises:
        NotUnderstood: the message names what is not.
    """
    site.check(INPUTS[:8], _ATTRIBUTES, {})
    if site.output(3):
        raise site.refusal("qk")
    heads = integer(site.node, "num_heads")
    batch, queries, width = site.shape("query", 3)
    _, new, _ = site.shape("key", 3)
    values_width = site.shape("value", 3)[2]
    if heads < 1 or width % heads or values_width % heads:
        raise site.refusal(f"num_heads={heads}, query of {width} columns and value of {values_width}")
    shapes = {"query": (batch, queries, width), "key": (batch, new, width), "value": (batch, new, values_width)}
    for label, shape in shapes.items():
        if site.shape(label) != shape:
            raise site.refusal(f"{label} of shape {list(site.shape(label))}")
    past = past_length(site, (batch, heads, width // heads), (batch, heads, values_width // heads))
    total = past + new
    if integer(site.node, "unidirectional", 0) and queries != new:
        raise site.refusal(f"unidirectional=1 where {queries} queries meet {new} new keys")
    masks = site.causal(queries, total) if integer(site.node, "unidirectional", 0) else []
    masks += hiding(site, "key_padding_mask", (batch, queries, total)) if site["key_padding_mask"] else []
    masks += bias(site, (batch, heads, queries, total))
    names = {label: site[label] for label in shapes}
    if site["bias"]:
        if site.shape("bias") != (2 * width + values_width,):
            raise site.refusal(f"bias of shape {list(site.shape('bias'))}")
        parts = site.cut(site["bias"], [width, width, values_width])
        names = {label: site.add("Add", names[label], part) for label, part in zip(shapes, parts, strict=True)}
    q, k, v = (site.heads(names[label], shape, heads) for label, shape in shapes.items())
    k, v = presents(site, k, v, past)
    scale = number(site.node, "scale", 0.0) or 1.0 / math.sqrt(width // heads)
    site.joined(site.attention(q, k, v, scale, masks), batch, queries, values_width)
    return True
