"""A tuning request as typed, and how it is carried out: in this process, or by a server."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from fettle.backends.api import MeasurePolicy
from fettle.cli.output import stderr
from fettle.cli.running import run_here, run_there
from fettle.graph.errors import FettleError, InvalidArgument
from fettle.store.jobs import Job
from fettle.store.specs import JobSpec
from fettle.tuning import Work, plan, read_work

if TYPE_CHECKING:
    from fettle.bench.beside import Beside
    from fettle.graph.sharing import Alternative
    from fettle.graph.workload import Workload
    from fettle.store.api import Store


_NAMED = 4
"""Nodes named for each reason that they have no kernel."""


@attrs.frozen
class Request:
    """A tuning request as typed.

    Attributes:
        target: path of an ONNX model, or a workload text.
        seconds: wall-clock limit, or None.
        mode: ``hot`` or ``cold``.
        share: elements of prepared activations that products may share.
    """

    target: str
    device: str
    trials: int
    seconds: float | None
    dims: dict[str, int]
    seed: int
    force: bool
    mode: str
    objectives: Sequence[str]
    share: tuple[str, ...] = ()

    @property
    def is_model(self) -> bool:
        return self.target.endswith(".onnx")

    def plan(self) -> tuple[JobSpec, Work]:
        """The job it asks for; see :func:`fettle.tuning.plan`."""
        return plan(
            self.target,
            self.device,
            trials=self.trials,
            seconds=self.seconds,
            dims=self.dims,
            seed=self.seed,
            force=self.force,
            policy=MeasurePolicy(mode=self.mode),
            objectives=self.objectives,
            share=self.share,
        )


def tune_here(
    request: Request, store: str | None, cancel: threading.Event, compare: bool | None
) -> tuple[Job, tuple[Alternative, ...], Mapping[Workload, Beside]]:
    """As :func:`tune_there`, and the kernels beside their peers.

    Args:
        compare: whether they are compared; None: if any was just tuned, and they can be.
    """
    spec, work = request.plan()
    can_compare = spec.device.backend == "cpu" and request.mode == "hot"
    if compare and not can_compare:
        raise InvalidArgument(
            f"--compare has no peers for {spec.device}{', cold' if request.mode == 'cold' else ''}",
            hint="they run on this machine's CPU, on what its caches hold",
        )
    if request.is_model:
        _announce([(node.name, node.reason) for node in work.left_out], work.covered)
    from fettle.store.open import open_store

    with open_store(store) as opened:
        job = run_here(opened, opened.create_job(spec)[0].id, cancel)
        if compare is None:
            compare = can_compare and any(not r.cached for r in job.results)
        peers: Mapping[Workload, Beside] = {}
        if compare and not cancel.is_set():
            with suppress(KeyboardInterrupt):  # what was tuned is told all the same
                peers = _beside(request, job, opened)
    return job, work.ways, peers


def _beside(request: Request, job: Job, store: Store) -> Mapping[Workload, Beside]:
    """Each kernel that was found beside its fastest peer; none, and a line that says why, where that fails."""
    from fettle.bench import beside
    from fettle.offline import lookup

    stderr.print("timing the kernels in turns with what runs the same today", highlight=False)
    peers: beside.Peers = beside.of_operators
    if request.is_model:
        from fettle.graph.onnx_import import import_model

        peers = beside.of_model(import_model(request.target, request.dims))
    won = [r.workload for r in job.results if r.best_s is not None]
    try:
        kernels = {workload: lookup(workload, request.device, store=store, default=False) for workload in won}
        return beside.beside(kernels, peers, int(job.spec.device.limit("threads", 1)))
    except FettleError as error:
        stderr.print(f"no comparison: {error}", highlight=False)
        return {}


def tune_there(
    request: Request, server: str, token: str | None, tls_ca: Path | None, cancel: threading.Event
) -> tuple[Job, tuple[Alternative, ...]]:
    """The job as it ended, and the ways to share activations whose kernels were asked for."""
    from fettle.service.client import connect

    graph: bytes | None = None
    workloads: tuple[tuple[Workload, int], ...] = ()
    ways: tuple[Alternative, ...] = ()
    if request.is_model and not request.share:
        from fettle.graph.onnx_import import without_weights

        graph = without_weights(request.target)
    else:
        work = read_work(request.target, request.dims, request.share)
        workloads, ways = work.workloads, work.ways
        _announce([(node.name, node.reason) for node in work.left_out])
    with connect(server, token=token, tls_ca=tls_ca) as client:
        submitted = client.submission(
            graph=graph,
            workloads=workloads,
            device=request.device,
            trials=request.trials,
            seconds=request.seconds,
            dims=request.dims if graph is not None else None,  # else bound already, in the workloads
            seed=request.seed,
            force=request.force,
            mode=request.mode,
            objectives=request.objectives,
            title=Path(request.target).name if graph is not None else request.target,
        )
        _announce(submitted.left_out)
        stderr.print(f"job {submitted.job.id} on {server}", highlight=False)
        return run_there(client, submitted.job, cancel, server), ways


def _announce(left_out: Sequence[tuple[str, str]], covered: int | None = None) -> None:
    """How much of a model kernels do, and the nodes that fettle leaves alone: a line for each reason.

    Nodes that are computed once, from constants, belong to neither.

    Args:
        left_out: nodes without a kernel, with their reasons.
        covered: how many nodes of a model kernels do, where that is known.
    """
    from fettle.graph.onnx.patterns.fuse import CONSTANT

    by_reason: dict[str, list[str]] = {}
    for name, reason in left_out:
        if reason != CONSTANT:
            by_reason.setdefault(reason, []).append(name)
    left = sum(map(len, by_reason.values()))
    if covered is not None:
        stderr.print(f"kernels do {covered} of {covered + left} nodes", highlight=False)
    if by_reason:
        others = "fettle run executes them with NumPy, or ONNX's reference evaluator"
        stderr.print(f"{left} node(s) without a kernel ({others}):", highlight=False, soft_wrap=True)
    for reason, names in sorted(by_reason.items(), key=lambda item: -len(item[1])):
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        stderr.print(f"  {reason}: {', '.join(names[:_NAMED])}{more}", highlight=False, soft_wrap=True)
