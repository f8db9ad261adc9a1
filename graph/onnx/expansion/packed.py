"""onnxruntime's Attention, which projects to queries, keys and values itself, in terms of ONNX's operators.

``[q k v] = x · W + b`` for all heads side by side, then softmax attention; as its optimiser writes BERT.
"""

from __future__ import annotations

import math

import numpy as np

from fettle.graph.onnx.expansion.padding import hiding
from fettle.graph.onnx.expansion.site import Site
from fettle.graph.onnx.protos import integer, number

INPUTS = ("input", "weights", "bias", "mask_index", "past", "attention_bias", "past_sequence_length")

_UNDERSTOOD = ("num_heads", "scale", "unidirectional", "mask_filter_value")
_NEUTRAL = {"do_rotary": (0,), "past_present_share_buffer": (0,), "rotary_embedding_dim": (0,), "qkv_hidden_sizes": ()}


def expand(site: Site) -> bool:
    """Write the node as two products and what is between them.

    Raises:
        NotUnderstood: the message names what is not.
    """
    site.check(INPUTS[:4], _UNDERSTOOD, _NEUTRAL)
    if site.output(1):
        raise site.refusal("present")
    batch, positions, _ = site.shape("input", 3)
    (_, width), _ = site.shape("weights", 2), site.shape("bias", 1)
    heads, causal = integer(site.node, "num_heads"), bool(integer(site.node, "unidirectional", 0))
    if heads < 1 or width % (3 * heads):
        raise site.refusal(f"num_heads={heads} and weights of {width} columns")
    if causal and site["mask_index"]:
        raise site.refusal("unidirectional=1 and mask_index")
    size = width // (3 * heads)
    masks = hiding(site, "mask_index", (batch, positions, positions)) if site["mask_index"] else []
    masks += site.causal(positions, positions) if causal else []
    product = site.add("Add", site.add("MatMul", site["input"], site["weights"]), site["bias"])
    packed = site.reshaped(product, batch, positions, 3, heads, size)
    q, k, v = (
        site.add("Transpose", site.add("Gather", packed, site.constant(np.array(i)), axis=2), perm=[0, 2, 1, 3])
        for i in range(3)
    )
    result = site.attention(q, k, v, number(site.node, "scale", 0.0) or 1.0 / math.sqrt(size), masks)
    site.joined(result, batch, positions, heads * size)
    return True
