"""onnxruntime's GroupQueryAttention, as its generators write Llama, Phi or Qwen, in terms of ONNX's operators.

Queries and new keys are rotated to their positions, new keys and values follow those of the past, heads share keys in
groups, and nobody sees what comes later. All sequences of a batch have their full length, past and new tokens, which
``seqlens_k`` says again of every sequence. One sequence alone is taken to have it; of several it must be a constant,
since shorter ones among them would be computed as if they were full.
"""

from __future__ import annotations

import math

import numpy as np

from fettle.graph.onnx.expansion.padding import bias
from fettle.graph.onnx.expansion.past import past_length, presents
from fettle.graph.onnx.expansion.site import Site
from fettle.graph.onnx.protos import integer, number

INPUTS = (
    "query", "key", "value", "past_key", "past_value", "seqlens_k", "total_sequence_length", "cos_cache", "sin_cache",
    "position_ids", "attention_bias", "head_sink", "k_scale", "v_scale", "q_norm_weight", "k_norm_weight",
)  # fmt: skip

_INPUTS = (*INPUTS[:9], "attention_bias")
_ATTRIBUTES = ("num_heads", "kv_num_heads", "scale", "do_rotary", "rotary_interleaved", "qk_norm_epsilon")
_NEUTRAL = {
    "local_window_size": (-1,), "softcap": (0.0,), "smooth_softmax": (0, -1), "qk_output": (0,), "causal": (1,),
    "sliding_window_cache": (0,), "kv_cache_bit_width": (0,), "k_quant_type": (b"NONE",), "v_quant_type": (b"NONE",),
}  # fmt: skip


def expand(site: Site) -> bool:
    """Write the node as rotations, concatenations and an attention in pieces.

    Raises:
        NotUnderstood: the message names what is not.
    """
    site.check(_INPUTS, _ATTRIBUTES, _NEUTRAL)
    if site.output(3):
        raise site.refusal("output_qk")
    heads, kv_heads = (integer(site.node, name) for name in ("num_heads", "kv_num_heads"))
    batch, new, width = site.shape("query", 3)
    packed = not site["key"]
    parts = heads + 2 * kv_heads if packed else heads
    if heads < 1 or kv_heads < 1 or heads % kv_heads or width % parts:
        raise site.refusal(f"num_heads={heads} kv_num_heads={kv_heads} and query of {width} columns")
    size = width // parts
    if packed and site["value"]:
        raise site.refusal("value, but no key")
    past, total = _lengths(site, (batch, kv_heads, new, size))
    rotary = _rotation(site, total, size)
    masks = [*site.causal(new, total), *bias(site, (batch, heads, new, total))]
    if packed:
        widths = [heads * size, kv_heads * size, kv_heads * size]
        q, k, v = site.cut(site["query"], widths)
    else:
        for label in ("key", "value"):
            if site.shape(label) != (batch, new, kv_heads * size):
                raise site.refusal(f"{label} of shape {list(site.shape(label))}")
        q, k, v = (site[label] for label in ("query", "key", "value"))
    q = site.heads(q, (batch, new, heads * size), heads)
    k, v = (site.heads(name, (batch, new, kv_heads * size), kv_heads) for name in (k, v))
    if rotary is not None:
        site.check_size(batch * total)
        positions = site.constant(np.tile(np.arange(past, total), (batch, 1)))
        q, k = (site.rotated(name, site["cos_cache"], site["sin_cache"], positions, **rotary) for name in (q, k))
    keys, values = (site.repeated(name, (batch, kv_heads, total, size), heads) for name in presents(site, k, v, past))
    scale = number(site.node, "scale", 0.0) or 1.0 / math.sqrt(size)
    site.joined(site.attention(q, keys, values, scale, masks), batch, new, heads * size)
    return True


def _lengths(site: Site, extents: tuple[int, int, int, int]) -> tuple[int, int]:
    """Tokens of the past, and all of them; the past of every sequence has them all."""
    batch, kv_heads, new, size = extents
    past = past_length(site, (batch, kv_heads, size), (batch, kv_heads, size))
    total = past + new
    for label, expected in (("seqlens_k", total - 1), ("total_sequence_length", total)):
        known = site.value(label) if site[label] else None
        if known is not None and (known != expected).any():
            raise site.refusal(f"{label}={known.tolist()} where all sequences have {total} tokens")
    if batch > 1 and (not site["seqlens_k"] or site.value("seqlens_k") is None):
        raise site.refusal(f"seqlens_k of {batch} sequences, which is not constant: they may differ in length")
    for index, label in ((1, "present_key"), (2, "present_value")):
        shape = site.known_shape(site.output(index)) if site.output(index) else None
        if shape not in (None, (batch, kv_heads, total, size)):
            raise site.refusal(
                f"{label} of shape {list(shape)}, where past and new tokens are {total}: a shared buffer"
            )
    return past, total


def _rotation(site: Site, total: int, size: int) -> dict[str, int] | None:
    """Attributes of the rotation; None for none."""
    if not integer(site.node, "do_rotary", 0):
        return None
    rows, half = site.shape("cos_cache", 2)
    if site.shape("sin_cache") != (rows, half) or rows < total or 2 * half > size:
        raise site.refusal(f"cos_cache of shape {[rows, half]}, sin_cache of {list(site.shape('sin_cache'))}")
    attributes = {"interleaved": integer(site.node, "rotary_interleaved", 0)}
    return attributes if 2 * half == size else {**attributes, "rotary_embedding_dim": 2 * half}
