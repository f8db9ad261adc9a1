"""ONNX's Attention over ``[batch, sequence, heads · dim]``, or with a past, as the one over four axes without."""

from __future__ import annotations

from onnx import helper

from fettle.graph.onnx.expansion.past import past_length, presents
from fettle.graph.onnx.expansion.site import Site
from fettle.graph.onnx.protos import integer

INPUTS = ("Q", "K", "V", "attn_mask", "past_key", "past_value", "nonpad_kv_seqlen")

_KEPT = ("scale", "softmax_precision")
_NEUTRAL = {"softcap": (0.0,), "left_window_size": (-1,), "right_window_size": (-1,), "qk_matmul_output_mode": (0,)}


def expand(site: Site) -> bool:
    """Write what is around the attention as nodes of its own; False where nothing is.

    Raises:
        NotUnderstood: the message names what is not.
    """
    flat = len(site.shape("Q")) == 3
    if not flat and not site["past_key"] and not site.output(1) and not site.output(2):
        return False
    site.check(INPUTS[:6], (*_KEPT, "is_causal", "q_num_heads", "kv_num_heads"), _NEUTRAL)
    if site.output(3):
        raise site.refusal("qk_matmul_output")
    names, shapes = _operands(site, flat)
    (batch, heads, queries, _), (_, groups, new, key_size), (*_, size) = shapes
    past = past_length(site, (batch, groups, key_size), (batch, groups, size))
    total, mask = past + new, site["attn_mask"]
    causal = bool(integer(site.node, "is_causal", 0))
    if mask:
        kind = site.kind("attn_mask")
        if kind is None or kind.shape is None or kind.shape[-1:] != (total,):
            raise site.refusal("attn_mask that is shorter than the keys, or of unknown shape")
        if causal and past:
            raise site.refusal("is_causal=1, attn_mask and past_key")
    attributes = {a.name: helper.get_attribute_value(a) for a in site.node.attribute if a.name in _KEPT}
    if causal and past and queries != new:
        raise site.refusal(f"is_causal=1 where {queries} queries meet {new} new keys")
    if causal and past:  # query i is at position past + i
        mask = next(iter(site.causal(queries, total)), "")
    elif causal:
        attributes["is_causal"] = 1
    q, k, v = names
    k, v = presents(site, k, v, past)
    operands = [q, k, v, mask] if mask else [q, k, v]
    result = site.add("Attention", *operands, result="" if flat else site.output(0), **attributes)
    if flat:
        site.joined(result, batch, queries, heads * size)
    return True


def _operands(site: Site, flat: bool) -> tuple[list[str], list[tuple[int, ...]]]:
    """Names and shapes of queries, keys and values ``[batch, heads, positions, size]``."""
    labels, names, shapes = ("Q", "K", "V"), [], []
    for label in labels:
        shape = site.shape(label, 3 if flat else 4)
        name = site[label]
        if flat:
            attribute = "q_num_heads" if label == "Q" else "kv_num_heads"
            heads = integer(site.node, attribute, 0)
            if heads < 1 or shape[2] % heads:
                raise site.refusal(f"{attribute}={heads} and {label} of {shape[2]} columns")
            name = site.heads(name, (shape[0], shape[1], shape[2]), heads)
            shape = (shape[0], heads, shape[1], shape[2] // heads)
        names.append(name)
        shapes.append(shape)
    return names, shapes
