"""What each operator costs on each device, and a transfer between them."""

from __future__ import annotations

import abc
import contextlib
import itertools
from collections.abc import Sequence

import attrs

from fettle.backends.api import Backend, Basis, Device, Value
from fettle.backends.registry import resolve_device
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.graph.workload import Workload
from fettle.search.placement.work import Work, machines


@attrs.frozen
class Cost:
    """Of one run of an operator; ``joules`` is None where nothing says so."""

    seconds: float
    joules: float | None
    basis: Basis


class Place(abc.ABC):
    """Something that can run operators."""

    name: str

    @abc.abstractmethod
    def cost(self, workload: Workload) -> Cost | None:
        """None if it cannot run it."""


class SimulatedPlace(Place):
    """A device with a model: the best over its dataflows, its orders of loops, and the rows of a product in the
    textbook's tiles or all at once; all else as in the textbook. That the host reads the weights and multiplies is no
    choice here: then it is the host that runs the operator, at no stated cost."""

    def __init__(self, backend: Backend, device: Device) -> None:
        self._backend, self._device = backend, device
        self.name = str(device)
        self._known: dict[Workload, Cost | None] = {}

    def cost(self, workload: Workload) -> Cost | None:
        if workload not in self._known:
            self._known[workload] = self._ask(workload)
        return self._known[workload]

    def _ask(self, workload: Workload) -> Cost | None:
        if not self._backend.supports(workload, self._device):
            return None
        from fettle.backends.pim.matmul import HOST_READS  # loads the compiler of the simulators

        space = self._backend.space(workload, self._device)
        loops = [
            [{p.name: v} for v in p.choices if v != HOST_READS]
            for p in space.parameters
            if p.name in ("dataflow", "order")
        ]
        rows: list[dict[str, Value]] = [{"tile_m": p.choices[-1]} for p in space.parameters if p.name == "tile_m"]
        results = []
        for choice in itertools.product(*loops, [{}, *rows]):
            given = dict(itertools.chain.from_iterable(one.items() for one in choice))
            with contextlib.suppress(InvalidArgument, Unsupported):  # not every pair is a mapping
                results.append(self._backend.simulate(workload, self._device, given))
        if not results:
            return None
        best = min(results, key=lambda r: r.seconds)
        return Cost(best.seconds, best.energy, best.basis)


class RooflinePlace(Place):
    """A machine of ``data/machines.json``: an estimate that no real machine beats."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._machine = machines()["machines"][name]

    def cost(self, workload: Workload) -> Cost | None:
        m = self._machine
        seconds = max(workload.flops / m["peak"], workload.nbytes / m["bandwidth"]) + m["overhead"]
        return Cost(seconds, seconds * m["watts"], Basis.ESTIMATED)


@attrs.frozen
class Link:
    """Between any two devices; bytes per second, seconds, joules per byte."""

    bandwidth: float
    latency: float
    joules_per_byte: float

    @classmethod
    def default(cls) -> Link:
        """As in ``data/machines.json``."""
        link = machines()["link"]
        return cls(link["bandwidth"], link["latency"], link["joules_per_byte"])

    def seconds(self, nbytes: int) -> float:
        """One transfer."""
        return self.latency + nbytes / self.bandwidth


def parse_places(text: str) -> tuple[Place, ...]:
    """Devices separated by commas; a part with ``=`` belongs to the device before it: ``npu:systolic,rows=64,cpu``.

    ``cpu``, ``gpu`` and ``gpu-eager`` are rooflines of stated machines.

    Raises:
        InvalidArgument: none, or one twice.
        InvalidDevice, NotFound: see :func:`fettle.backends.registry.resolve_device`.
    """
    texts: list[str] = []
    for part in text.split(","):
        if "=" in part and texts:
            texts[-1] += f",{part}"
        else:
            texts.append(part)
    if len(set(texts)) != len(texts):
        raise InvalidArgument(f"a device is named twice in {text!r}")
    return tuple(
        RooflinePlace(one) if one in machines()["machines"] else SimulatedPlace(*resolve_device(one)) for one in texts
    )


@attrs.frozen(eq=False)
class CostTable:
    """``costs[operator][place]``, None where it cannot run."""

    work: Work
    places: tuple[Place, ...]
    costs: tuple[tuple[Cost | None, ...], ...]
    link: Link

    @classmethod
    def ask(cls, work: Work, places: Sequence[Place], link: Link) -> CostTable:
        """Ask every place about every operator.

        Raises:
            Unsupported: an operator runs nowhere.
        """
        rows = tuple(tuple(place.cost(operator.workload) for place in places) for operator in work.operators)
        for operator, row in zip(work.operators, rows, strict=True):
            if not any(row):
                raise Unsupported(f"no device runs {operator.name}: {operator.workload}", hint="add cpu to --devices")
        return cls(work, tuple(places), rows, link)

    def seconds(self, operator: int, place: int) -> float:
        """All runs of an operator on a place; infinity if it cannot run there."""
        cost = self.costs[operator][place]
        return float("inf") if cost is None else self.work.operators[operator].count * cost.seconds

    def total(self, assignment: Sequence[int]) -> float:
        """Seconds of an assignment, one operator after the other, transfers included."""
        run = sum(self.seconds(operator, place) for operator, place in enumerate(assignment))
        return run + sum(
            edge.count * self.link.seconds(edge.nbytes)
            for edge in self.work.edges
            if assignment[edge.source] != assignment[edge.target]
        )

    def joules(self, assignment: Sequence[int]) -> float | None:
        """Energy of an assignment; None if a device states none."""
        total = 0.0
        for operator, place in enumerate(assignment):
            cost = self.costs[operator][place]
            if cost is None or cost.joules is None:
                return None
            total += self.work.operators[operator].count * cost.joules
        for edge in self.work.edges:
            if assignment[edge.source] != assignment[edge.target]:
                total += edge.count * edge.nbytes * self.link.joules_per_byte
        return total
