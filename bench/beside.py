"""The kernels of a job beside what runs the same work today: how much the user gains, measured here and now."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import attrs
import numpy as np

from fettle.backends.cpu.views import aligned, empty
from fettle.bench.cpu import OURS, WRONG
from fettle.bench.metrics import normalised_error
from fettle.bench.peers import PEERS, Rival, onnxnodes
from fettle.bench.timing import SETTLE, interleave_groups
from fettle.graph import data
from fettle.graph.errors import Unsupported
from fettle.graph.onnx.importer import Imported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload
from fettle.kernel import Kernel

ROUNDS = 5
SEED = 0


@attrs.frozen
class Beside:
    """A kernel and the fastest peer that computes the same, in one process, in turns.

    Attributes:
        peer: its name; empty if there was none to compare with.
        ours_s, peer_s: seconds a call from Python, in the shortest round. Ours is a prepared call.
        missing: why there is no peer.
    """

    peer: str = ""
    ours_s: float | None = None
    peer_s: float | None = None
    missing: str = ""

    @property
    def speedup(self) -> float | None:
        """peer_s / ours_s."""
        return self.peer_s / self.ours_s if self.peer_s and self.ours_s else None


Peers = Callable[[Workload, Sequence[Operand], int], tuple[list[Rival], int]]
"""(workload, operands, threads) -> the ways people have, and how often each call computes the workload.

Raises Unsupported if there is none, with the reason.
"""


def of_model(imported: Imported) -> Peers:
    """onnxruntime on the nodes of a model: what runs them today."""
    nodes = {node.workload: node for node in reversed(imported.graph.nodes)}

    def peers(workload: Workload, operands: Sequence[Operand], threads: int) -> tuple[list[Rival], int]:
        if workload not in nodes:
            raise Unsupported("no node of the model computes it")
        rival, count = onnxnodes.rival(imported, nodes[workload], operands, threads)
        return [rival], count

    return peers


def of_operators(workload: Workload, operands: Sequence[Operand], threads: int) -> tuple[list[Rival], int]:
    """The kernels that onnxruntime, torch and ggml have for an operator, of those that are installed."""
    rivals: list[Rival] = []
    reasons = []
    for peer in PEERS.values():
        try:
            rivals += peer(workload, operands, threads)
        except Unsupported as error:
            reasons.append(str(error))
    if not rivals:
        raise Unsupported("; ".join(dict.fromkeys(reasons)) or f"no peer has {workload.operator}")
    return rivals, 1


def beside(
    kernels: Mapping[Workload, Kernel], peers: Peers, threads: int, rounds: int = ROUNDS
) -> dict[Workload, Beside]:
    """Time each kernel in turns with its peers, all on the same data.

    A peer whose result is not the reference's, within :data:`WRONG`, computes something else and is not timed.
    """
    found: dict[Workload, Beside] = {}
    groups: dict[str, dict[Workload, Callable[[], object]]] = {OURS: {}}
    counts: dict[Workload, int] = {}
    for workload, kernel in kernels.items():
        operands = tuple(aligned(o) if isinstance(o, np.ndarray) else o for o in data.operands(workload, SEED))
        try:
            rivals, counts[workload] = peers(workload, operands, threads)
        except Unsupported as error:
            found[workload] = Beside(missing=str(error))
            continue
        expected = data.reference(workload, operands).expected
        right = [rival for rival in rivals if normalised_error(rival.result(), expected) <= WRONG]
        if not right:
            found[workload] = Beside(missing=f"{rivals[0].name} computes something else")
            continue
        call = kernel.prepare(*operands, out=empty(workload.result.shape, workload.result.format.dtype))
        groups[OURS][workload] = functools.partial(_repeat, call, counts[workload])
        for rival in right:
            groups.setdefault(rival.name, {})[workload] = rival.call
    if not groups[OURS]:
        return found
    timed = interleave_groups(groups, rounds, settle=SETTLE if threads > 1 else 0.0)
    for workload in groups[OURS]:
        seconds = {name: times[workload] / counts[workload] for name, times in timed.items() if workload in times}
        ours = seconds.pop(OURS)
        peer = min(seconds, key=seconds.__getitem__)
        found[workload] = Beside(peer, ours, seconds[peer])
    return found


def _repeat(call: Callable[[], object], count: int) -> None:
    for _ in range(count):
        call()
