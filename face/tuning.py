"""``fettle.tune``: run a tuning job in this process, on an embedded store."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import attrs

from fettle.backends.api import MeasurePolicy
from fettle.backends.registry import resolve_device
from fettle.graph.errors import InvalidArgument, InvalidGraph
from fettle.graph.graph import GraphNode
from fettle.graph.sharing import Alternative, alternatives, workloads
from fettle.graph.workload import Workload
from fettle.store.api import Store
from fettle.store.jobs import Job, JobEvent
from fettle.store.specs import Budget, JobSpec

if TYPE_CHECKING:
    from fettle.search.distribution import Distribution


@attrs.frozen
class Work:
    """What is to be tuned, read from a model file or a workload text.

    Attributes:
        title: the file's name or the workload text.
        workloads: distinct workloads with how often each occurs.
        left_out: nodes of the model that no kernel is made for, each with its reason.
        ways: in which products could share the preparation of their activations, if that was asked for.
        covered: how many nodes of the model the workloads stand for.
    """

    title: str
    workloads: tuple[tuple[Workload, int], ...]
    left_out: tuple[GraphNode, ...] = ()
    ways: tuple[Alternative, ...] = ()
    covered: int = 0


def read_work(
    target: str | os.PathLike[str] | Workload | Sequence[Workload],
    dims: Mapping[str, int] | None = None,
    share: Sequence[str] = (),
) -> Work:
    """Understand the target of a tuning request: ``*.onnx`` is a model, anything else a workload text.

    Args:
        share: elements of prepared activations (``i8``, ``lut4``) that products of a model may share; the workloads
            of both ways are then to be tuned.

    Raises:
        InvalidWorkload: malformed text, or no such element.
        InvalidGraph, NotFound: the model cannot be read, or has nothing to tune.
    """
    if share and not isinstance(target, str | os.PathLike):
        raise InvalidArgument("only products of an ONNX model share the preparation of their activations")
    if isinstance(target, Workload):
        return Work(str(target), ((target, 1),))
    if isinstance(target, Sequence) and not isinstance(target, str):
        if not target:
            raise InvalidArgument("there is nothing to tune: no workload is given")
        if not all(isinstance(workload, Workload) for workload in target):
            raise InvalidArgument(
                "a sequence to tune holds Workloads", hint="fettle.Workload.parse makes one of a text"
            )
        return Work(f"{len(target)} workloads", tuple((w, 1) for w in dict.fromkeys(target)))
    if not isinstance(target, str | os.PathLike):  # callers pass anything
        raise InvalidArgument(f"what to tune is a file, a text or Workloads, not {type(target).__name__}")
    text = os.fspath(target)
    if text.endswith((".pt2", ".pt", ".pth")):
        raise InvalidArgument(f"{text} is a file of PyTorch's", hint="write an ONNX model with fettle.from_torch")
    if not text.endswith(".onnx"):
        if share:
            raise InvalidArgument("only products of an ONNX model share the preparation of their activations")
        if dims:
            raise InvalidArgument("--dim is for ONNX models", hint="write the size into the workload text")
        if os.path.isfile(text):
            raise InvalidArgument(f"{text} is a file, and no ONNX model", hint="names of models end in .onnx")
        workload = Workload.parse(text)
        return Work(str(workload), ((workload, 1),))
    from fettle.graph.onnx_import import import_model

    graph = import_model(text, dict(dims or {})).graph
    if not graph.workloads():
        reasons = "; ".join(f"{node.name}: {node.reason}" for node in graph.unsupported()[:5])
        raise InvalidGraph(f"{text} has no operator fettle can tune", hint=reasons)
    ways = alternatives(graph, share)
    covered = sum(len(node.covers) for node in graph.nodes if node.workload is not None)
    return Work(os.path.basename(text), (*graph.workloads(), *workloads(ways)), graph.unsupported(), ways, covered)


def plan(
    target: str | os.PathLike[str] | Workload | Sequence[Workload],
    device: str = "cpu",
    *,
    trials: int = 64,
    seconds: float | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    force: bool = False,
    policy: MeasurePolicy | None = None,
    objectives: Sequence[str] = ("latency",),
    share: Sequence[str] = (),
) -> tuple[JobSpec, Work]:
    """The job a request describes, and what its target was understood as; see :func:`tune` for the arguments.

    Raises:
        InvalidArgument (and subclasses): malformed target, device or budget, a seed out of range.
    """
    budget = Budget(trials, seconds)
    work = read_work(target, dims, share)
    _, resolved = resolve_device(device)
    spec = JobSpec(
        work.workloads, resolved, device, budget, policy or MeasurePolicy(), seed, force, work.title, objectives
    )
    return spec, work


def tune(
    target: str | os.PathLike[str] | Workload | Sequence[Workload],
    device: str = "cpu",
    *,
    trials: int = 64,
    seconds: float | None = None,
    dims: Mapping[str, int] | None = None,
    seed: int = 0,
    force: bool = False,
    policy: MeasurePolicy | None = None,
    objectives: Sequence[str] = ("latency",),
    share: Sequence[str] = (),
    store: Store | str | os.PathLike[str] | None = None,
    cancel: threading.Event | None = None,
    on_event: Callable[[JobEvent], None] | None = None,
) -> Job:
    """Tune a model or workload here and now; the winners go to the store.

    Args:
        target: path of an ``.onnx`` model, a workload text, a workload, or several.
        device: device text.
        trials: mean number of trials per distinct workload.
        seconds: wall-clock limit of the job.
        dims: values of the model's symbolic dimensions.
        seed: everything random follows from it.
        force: tune even what the cache already has.
        policy: how kernels are timed.
        objectives: of ``latency``, ``energy`` and ``size``; with several, each result has the trials' Pareto front.
        share: ways in which products of a model with the same input may share the preparation of their activations,
            ``i8`` and ``lut4``: kernels for these are tuned too, and :func:`fettle.modelrun.run_model` takes what is
            faster.
        store: an open store, its URL, or None for the user's own store.
        cancel: set it to stop early and keep the best so far.
        on_event: called with every event, from the thread that tunes.

    Identical work that another process does on the same store is followed instead of done twice.

    Returns:
        The finished job; ``job.results`` has one row per workload.

    Raises:
        InvalidArgument (and subclasses): malformed target, device or budget.
    """
    from fettle.search.follow import run_or_follow
    from fettle.store.open import store_at

    spec, _ = plan(
        target,
        device,
        trials=trials,
        seconds=seconds,
        dims=dims,
        seed=seed,
        force=force,
        policy=policy,
        objectives=objectives,
        share=share,
    )
    with store_at(store) as opened:
        job, _ = opened.create_job(spec)
        return run_or_follow(opened, job.id, cancel=cancel, on_event=on_event)


def tune_distribution(
    template: str,
    distribution: Mapping[int, float],
    device: str = "cpu",
    *,
    trials: int = 64,
    seed: int = 0,
    policy: MeasurePolicy | None = None,
    store: Store | str | os.PathLike[str] | None = None,
) -> Distribution:
    """Choose one packed layout, and a schedule per row count, for the least expected time; the cache then serves them.

    Args:
        template: a workload text without ``m``, e.g. ``matmul n=4096 k=4096 act=f32 weight=u4:128``.
        distribution: rows of x -> how often; the weights need not add up to 1.
        device: device text.
        trials: mean number of trials per row count.
        seed: everything random follows from it.
        policy: how kernels are timed.
        store: an open store, its URL, or None for the user's own store.

    Raises:
        InvalidArgument (and subclasses): malformed template, distribution, device or budget.
        NotFound: no layout has a verified kernel for every row count.
    """
    from fettle.search import distribution as search
    from fettle.store.open import store_at

    _, resolved = resolve_device(device)
    with store_at(store) as opened:
        return search.tune_distribution(
            opened, template, distribution, resolved, device, trials=trials, seed=seed, policy=policy
        )
