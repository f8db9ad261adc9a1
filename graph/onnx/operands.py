"""Operands of a workload, from the tensors of a model."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from fettle.graph.graph import GraphNode
from fettle.graph.quantized import Operand, QuantizedWeight


def operands(node: GraphNode, tensors: Mapping[str, np.ndarray]) -> tuple[Operand, ...]:
    """The operands of a node with a workload, in the workload's shapes.

    Args:
        tensors: the model's tensors by name; those that are no constants are only viewed.
    """
    assert node.workload is not None
    found: list[Operand] = []
    for spec, names in zip(node.workload.operands, node.inputs, strict=True):
        arrays = [tensors[name] for name in names]
        if spec.format.is_quantised and spec.constant:
            found.append(
                QuantizedWeight.from_matmul_nbits(
                    arrays[0],
                    arrays[1],
                    arrays[2] if len(arrays) > 2 else None,
                    bits=spec.format.bits,
                    block=int(spec.format.group or 0),
                    k=spec.shape[1],
                )
            )
        else:
            found.append(np.ascontiguousarray(arrays[0]).reshape(spec.shape))
    return tuple(found)
