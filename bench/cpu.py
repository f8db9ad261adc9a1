"""The CPU backend beside its peers: tune what the cache lacks, prove everything right, time interleaved, judge."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence

import attrs
import numpy as np

from fettle.backends.api import Backend, Bound, Device, Profile
from fettle.backends.cpu.views import aligned, empty
from fettle.backends.registry import resolve_device
from fettle.bench.goals import Case, Goal
from fettle.bench.metrics import normalised_error
from fettle.bench.peers import PEERS, Effort, Peer, Rival, metaschedule
from fettle.bench.results import CaseResult, PeerTime
from fettle.bench.timing import SETTLE, Timed, interleave
from fettle.graph import data
from fettle.graph.errors import FettleError, NotFound, Unsupported
from fettle.graph.operators import Reference
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload
from fettle.kernel import Kernel
from fettle.offline import lookup
from fettle.store.api import Store
from fettle.store.jobs import JobEvent
from fettle.tuning import tune

OURS = "fettle"
METASCHEDULE = "tvm MetaSchedule"
GGML = "ggml"

WRONG = 1e-2
"""A rival whose normalised error is above this computes something else and is not timed."""

SCREENING_ROUNDS = 2
CONTENDER = 1.25
"""Rivals this much slower than the fastest in the screening rounds are not timed further."""

Timer = Callable[[Mapping[str, Callable[[], object]], int], Timed]


def device_text(threads: int) -> str:
    """The device of a benchmark on so many threads."""
    return f"cpu,threads={threads}"


def tune_all(
    store: Store,
    goals: Sequence[Goal],
    threads: Sequence[int],
    *,
    trials: int,
    seed: int,
    force: bool,
    on_event: Callable[[JobEvent], None] | None = None,
) -> dict[tuple[str, int], str]:
    """Tune every workload of the goals that the cache lacks (or all), one job per thread count.

    Returns:
        (workload text, threads) -> why there is no kernel, for those without.
    """
    missing: dict[tuple[str, int], str] = {}
    for count in threads:
        wanted: dict[str, Workload] = {}
        for text in (t for goal in goals for case in goal.cases for t in (case.workload, case.rival) if t):
            try:
                wanted[text] = Workload.parse(text)
            except FettleError as error:
                missing[text, count] = f"not supported: {error.message}"
        if not wanted:
            continue
        job = tune(
            list(wanted.values()),
            device_text(count),
            trials=trials,
            seed=seed,
            force=force,
            store=store,
            on_event=on_event,
        )
        errors = dict.fromkeys(wanted.values(), f"not tuned: {job.error or job.state.value}")
        errors |= {result.workload: result.error and f"not supported: {result.error}" for result in job.results}
        missing |= {(text, count): errors[workload] for text, workload in wanted.items() if errors[workload]}
    return missing


@attrs.frozen
class Bench:
    """Times cases on one device.

    Attributes:
        profile: roofs, measured in this run.
        missing: (workload text, threads) -> why there is no kernel.
        rounds: how often every rival is timed.
        peers: name -> peer; see :data:`fettle.bench.peers.PEERS`.
        extra: more peers, asked for every case.
        timer: (rivals, rounds) -> times.
    """

    store: Store
    backend: Backend
    device: Device
    threads: int
    profile: Profile
    missing: Mapping[tuple[str, int], str]
    seed: int = 0
    rounds: int = 9
    peers: Mapping[str, Peer] = PEERS
    extra: Sequence[str] = ()
    timer: Timer = interleave

    @classmethod
    def on(cls, store: Store, threads: int, missing: Mapping[tuple[str, int], str], seed: int, rounds: int) -> Bench:
        """A bench on this machine; measures its roofs."""
        backend, device = resolve_device(device_text(threads))
        timer = functools.partial(interleave, settle=SETTLE if threads > 1 else 0.0)
        return cls(store, backend, device, threads, backend.profile(device), missing, seed, rounds, timer=timer)

    def with_metaschedule(self) -> Bench:
        """The same, where MetaSchedule searches f32 matmuls too: with our kernel's trials, and for its seconds."""

        def peer(workload: Workload, operands: Sequence[Operand], threads: int) -> list[Rival]:
            return metaschedule.rivals(workload, operands, threads, self._effort(workload), self.seed)

        return attrs.evolve(self, peers={**self.peers, METASCHEDULE: peer}, extra=(*self.extra, METASCHEDULE))

    def with_ggml(self) -> Bench:
        """The same, where ggml is a rival in every quantised product."""
        return attrs.evolve(self, extra=(*self.extra, GGML))

    def cases(self, goal: Goal, report: Callable[[str], None]) -> Iterator[CaseResult]:
        """Time the cases of a goal, one after the other."""
        for case in goal.cases:
            report(f"{goal.name} {case.label} threads={self.threads}")
            yield self.case(goal, case)

    def case(self, goal: Goal, case: Case) -> CaseResult:
        """Check ours and every rival against the reference, then time them interleaved."""
        for text in (case.workload, case.rival):
            if (text, self.threads) in self.missing:
                return CaseResult(case.label, case.workload, missing=self.missing[text, self.threads])
        workload = Workload.parse(case.workload)
        ours = _Ours(self._kernel(workload), self.seed)
        bound = self.backend.bound(workload, self.device, self.profile)
        found = attrs.evolve(_described(case, ours, bound), effort=self._effort(workload))
        if not ours.is_right:
            return attrs.evolve(found, missing="wrong result: beyond the declared tolerance")
        rivals, peers = self._rivals(goal, workload, ours)
        if case.rival:
            kernel = _Ours(self._kernel(Workload.parse(case.rival)), self.seed)
            name = f"{OURS} {kernel.workload.operands[1].format}"
            rivals[name] = kernel.run
            peers.append(PeerTime(name, None, None, kernel.error, kernel.bits_per_weight))
        return self._timed(found, ours, rivals, peers)

    def _kernel(self, workload: Workload) -> Kernel:
        return lookup(workload, device_text(self.threads), store=self.store, default=False)

    def _effort(self, workload: Workload) -> Effort | None:
        """What tuning our kernel spent; None if it came to the store without its job."""
        stored = self._kernel(workload).stored
        try:
            results = self.store.get_job(stored.job_id).results if stored else ()
        except NotFound:
            return None
        return next((Effort(r.trials, r.seconds) for r in results if r.workload == workload), None)

    def _rivals(
        self, goal: Goal, workload: Workload, ours: _Ours
    ) -> tuple[dict[str, Callable[[], object]], list[PeerTime]]:
        """Peers to time, and what is known of each before timing."""
        calls: dict[str, Callable[[], object]] = {}
        peers: list[PeerTime] = []
        for name in (*goal.peers, *self.extra):
            try:
                offered = self.peers[name](workload, ours.operands, self.threads)
            except Unsupported as error:
                hint = f" ({error.hint})" if error.hint else ""
                peers.append(PeerTime(name, missing=f"{error.message}{hint}"))
                continue
            for rival in offered:
                off = normalised_error(rival.result(), ours.reference.expected)
                right = off <= WRONG
                why = "" if right else f"not timed: its normalised error is {off:.1e}"
                peers.append(PeerTime(rival.name, None, None, _finite(off), rival.bits_per_weight, why, rival.effort))
                if right:
                    calls[rival.name] = rival.call
        return calls, peers

    def _timed(
        self, found: CaseResult, ours: _Ours, calls: dict[str, Callable[[], object]], peers: list[PeerTime]
    ) -> CaseResult:
        screened: dict[str, float] = {}
        if len(calls) > 1:
            screened = self.timer(calls, SCREENING_ROUNDS).medians
            limit = CONTENDER * min(screened.values())
            searched = {p.name for p in peers if p.effort}
            calls = {name: call for name, call in calls.items() if screened[name] <= limit or name in searched}
        timed = self.timer({OURS: ours.run, **calls}, self.rounds)
        medians = screened | timed.medians
        ratios = {name: timed.ratio(OURS, name) for name in calls}
        fastest = min(calls, key=lambda name: timed.medians[name], default=None)
        seconds = timed.medians[OURS]
        return attrs.evolve(
            found,
            seconds=seconds,
            of_roof=found.roof_seconds / seconds if found.roof_seconds else None,
            peer=fastest,
            ratio=ratios[fastest] if fastest else None,
            peers=tuple(attrs.evolve(p, seconds=medians.get(p.name), ratio=ratios.get(p.name)) for p in peers),
        )


class _Ours:
    """Our kernel on verification data, its constants packed; arrays start on cache lines, for it and for peers."""

    def __init__(self, kernel: Kernel, seed: int) -> None:
        self.kernel = kernel
        self.workload = kernel.workload
        self.operands: tuple[Operand, ...] = tuple(
            aligned(o) if isinstance(o, np.ndarray) else o for o in data.operands(self.workload, seed)
        )
        self.reference: Reference = data.reference(self.workload, self.operands)
        self.run = kernel.prepare(
            *self.operands, out=empty(self.workload.result.shape, self.workload.result.format.dtype)
        )
        numbers = self.workload.decode(self.run())
        difference = np.abs(numbers.astype(np.float64) - self.reference.expected)
        self.is_right = bool((difference <= self.reference.tolerance).all())
        self.error = _finite(normalised_error(numbers, self.reference.expected))

    @property
    def bits_per_weight(self) -> float | None:
        """Of the weight as it is packed, scales included; None where it is no quantised one."""
        pairs = zip(self.workload.operands, self.operands, strict=True)
        constants = [(tensor, operand) for tensor, operand in pairs if tensor.constant]
        if not any(tensor.format.is_quantised for tensor, _ in constants):
            return None
        stored = self.kernel.packed_bytes([operand for _, operand in constants])
        return 8.0 * stored / sum(tensor.size for tensor, _ in constants)


def _described(case: Case, ours: _Ours, bound: Bound) -> CaseResult:
    return CaseResult(
        case.label,
        case.workload,
        roof=bound.roof or None,
        roof_seconds=bound.seconds or None,
        normalised_error=ours.error,
        bits_per_weight=ours.bits_per_weight,
        schedule=ours.kernel.schedule.as_dict(),
    )


def _finite(error: float) -> float | None:
    return error if np.isfinite(error) else None
