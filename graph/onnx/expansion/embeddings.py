"""onnxruntime's EmbedLayerNormalization, the first node of its BERT: rows of tables, their sum, its normalisation."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from fettle.graph.onnx.expansion.site import Site
from fettle.graph.onnx.protos import integer, number
from fettle.graph.onnx.rewriting.contrib import SINCE

INPUTS = (
    "input_ids", "segment_ids", "word_embedding", "position_embedding", "segment_embedding", "gamma", "beta", "mask",
    "position_ids",
)  # fmt: skip

_EPSILON = 1e-12
_SUMS_SINCE = 13
"""The opset whose ReduceSum has its axes as an input."""


def expand(site: Site) -> bool:
    """Write the node as Gather, Add and LayerNormalization.

    Raises:
        NotUnderstood: the message names what is not.
    """
    site.check(INPUTS, ("epsilon", "mask_index_type"), {})
    ids = site.kind("input_ids")
    if ids is None or ids.shape is None or len(ids.shape) != 2:
        raise site.refusal("input_ids of a shape that is not known before it runs")
    for label in ("word_embedding", "position_embedding", "gamma", "beta"):
        site.shape(label)
    if site.opset < max(SINCE["LayerNormalization"], _SUMS_SINCE):
        raise site.refusal(f"opset {site.opset}, which lacks LayerNormalization")
    batch, positions = ids.shape
    if site.output(1):
        _count(site, batch)
    at = site["position_ids"] or site.constant(np.arange(positions)[None])
    total = site.add("Gather", site["word_embedding"], site["input_ids"])
    total = site.add("Add", total, site.add("Gather", site["position_embedding"], at))
    if site["segment_ids"]:
        site.shape("segment_embedding")
        total = site.add("Add", total, site.add("Gather", site["segment_embedding"], site["segment_ids"]))
    if site.output(2):
        site.add("Identity", total, result=site.output(2))
    site.add(
        "LayerNormalization", total, site["gamma"], site["beta"], result=site.output(0),
        axis=-1, epsilon=number(site.node, "epsilon", _EPSILON),
    )  # fmt: skip
    return True


def _count(site: Site, batch: int) -> None:
    """The second result: how many tokens of each sequence the mask lets through; 0 without a mask."""
    if integer(site.node, "mask_index_type", 0) not in (0, 1):
        raise site.refusal(f"mask_index_type={integer(site.node, 'mask_index_type')}")
    if not site["mask"]:
        site.add("Identity", site.constant(np.zeros(batch, np.int32)), result=site.output(1))
        return
    numbers = site.add("Cast", site["mask"], to=TensorProto.INT32)
    site.add("ReduceSum", numbers, site.constant([1]), result=site.output(1), keepdims=0)
