"""Peers: what people run today for the same workload, as callables on the same data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata

from fettle.bench.peers import ggml, onnxruntime, torch
from fettle.bench.peers.rival import Effort, Rival
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

Peer = Callable[[Workload, Sequence[Operand], int], list[Rival]]
"""(workload, operands, threads) -> the ways the peer can compute it, none if that is not its work.

Raises Unsupported if the peer is not installed or lacks the number format.
"""

PEERS: Mapping[str, Peer] = {
    "onnxruntime MatMulNBits": onnxruntime.matmul_nbits,
    "torch int4pack": torch.int4pack,
    "torch int8": torch.int8,
    "torch mm": torch.mm,
    "torch conv2d": torch.conv2d,
    "torch softmax": torch.softmax,
    "torch SDPA": torch.attention,
    "ggml": ggml.quantised,
}


def versions() -> dict[str, str | None]:
    """Version of each package peers come from; None if it is not installed."""
    found: dict[str, str | None] = {}
    for name in ("onnxruntime", "torch", ggml.PACKAGE):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


__all__ = ["PEERS", "Effort", "Peer", "Rival", "versions"]
