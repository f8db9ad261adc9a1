"""``fettle tune``."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import attrs
import typer

from fettle.backends.api import Basis, MeasurePolicy
from fettle.cli.options import (
    CaOption,
    DeviceOption,
    DimOption,
    JsonOption,
    ServerOption,
    ShareOption,
    StoreOption,
    TokenOption,
    parse_dims,
)
from fettle.cli.output import (
    DONE,
    FAILED,
    INTERRUPTED,
    job_json,
    peer_json,
    print_json,
    stderr,
    stdout,
)
from fettle.cli.results import next_step, print_results, sharing_line
from fettle.cli.running import run_here, run_there
from fettle.graph.errors import FettleError, InvalidArgument
from fettle.sharing import compare_results, sharing_json
from fettle.store.jobs import Job, JobState
from fettle.store.specs import OBJECTIVES, JobSpec
from fettle.tuning import Work, plan, read_work

if TYPE_CHECKING:
    from fettle.bench.beside import Beside
    from fettle.graph.sharing import Alternative
    from fettle.graph.workload import Workload
    from fettle.store.api import Store

QUICK_SECONDS = 30.0


def tune(
    target: Annotated[str, typer.Argument(metavar="MODEL.onnx|WORKLOAD", help="An ONNX model or a workload text.")],
    device: DeviceOption = "cpu",
    trials: Annotated[int, typer.Option(help="Mean number of trials per distinct workload.")] = 64,
    time: Annotated[float | None, typer.Option("--time", help="Wall-clock limit of the job in seconds.")] = None,
    dim: DimOption = None,
    seed: Annotated[int, typer.Option(help="Everything random follows from it.")] = 0,
    quick: Annotated[
        bool,
        typer.Option(
            "--quick",
            help="At most 30 trials a workload, of schedules that analysis finds fast; without --time, 30 s in all.",
        ),
    ] = False,
    cold: Annotated[bool, typer.Option("--cold", help="Tune for weights that no processor cache holds.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Tune even what the kernel cache already has.")] = False,
    objectives: Annotated[
        str, typer.Option(help=f"What to minimise, of {','.join(OBJECTIVES)}; several give a Pareto front.")
    ] = "latency",
    share_activations: ShareOption = None,
    compare: Annotated[
        bool | None,
        typer.Option(
            "--compare/--no-compare",
            help="Time the kernels in turns with onnxruntime's, and torch's, where they are installed: by default, "
            "those just tuned for a CPU, unless --json. It takes seconds.",
            show_default=False,
        ),
    ] = None,
    store: StoreOption = None,
    server: ServerOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Tune a model or one operator; the winners go to the cache.

    Ctrl-C stops early, keeps the best so far, and exits with 130.

    Examples:

    - fettle tune examples/decoder_layer.onnx --device cpu --trials 24

    - fettle tune "matmul m=1 n=4096 k=4096 act=f32 weight=u4:128" --trials 64 --json

    - fettle tune "softmax rows=64 cols=512 act=f32" --device npu:systolic --objectives latency,energy

    - fettle tune examples/decoder_layer.onnx --server 127.0.0.1:50151

    - fettle tune examples/decoder_layer.onnx --share-activations i8
    """
    dims = parse_dims(dim)
    if quick:
        from fettle.search.lite import FEW_TRIALS

        trials = min(trials, FEW_TRIALS)
        time = QUICK_SECONDS if time is None else time
    request = Request(
        target,
        device,
        trials,
        time,
        dims,
        seed,
        force,
        "cold" if cold else "hot",
        objectives.split(","),
        tuple(share_activations.split(",")) if share_activations else (),
    )
    cancel = threading.Event()
    peers: Mapping[Workload, Beside] = {}
    if server is None:
        job, ways, peers = _tune_here(request, store, cancel, False if json and compare is None else compare)
    elif store is not None:
        raise InvalidArgument("--store and --server exclude each other", hint="the server has its own store")
    elif compare:
        raise InvalidArgument("--compare and --server exclude each other", hint="kernels are compared where they run")
    else:
        job, ways = _tune_there(request, server, token, tls_ca, cancel)
    sharing = compare_results(ways, job.results)
    if json:
        found = {"sharing": [sharing_json(comparison) for comparison in sharing]} if request.share else {}
        if peers:
            found["peers"] = [peer_json(workload, peer) for workload, peer in peers.items()]
        print_json(job_json(job) | found)
    else:
        if job.results:
            print_results(job, peers, is_pass=request.is_model and not ways)
        if len(job.results) < len(job.spec.workloads) and job.error:  # else the table says it
            stdout.print(f"job {job.id}: {job.error}", style="red", highlight=False)
        if server is None and job.state is JobState.DONE and _is_usable(job, request):
            line = next_step(target, request.is_model, device, dims, store, request.mode)
            stdout.print(line, highlight=False, soft_wrap=True)
        for comparison in sharing:
            stdout.print(sharing_line(comparison), highlight=False)
        if request.share and not ways:
            elements = " or ".join(request.share)
            stdout.print(f"no products of {target} can share activations prepared as {elements}", highlight=False)
    if cancel.is_set():
        raise typer.Exit(INTERRUPTED)
    raise typer.Exit(DONE if job.state is JobState.DONE else FAILED)


def _is_usable(job: Job, request: Request) -> bool:
    """Whether programs on this machine can call what was tuned; whole models run hot kernels."""
    measured = all(r.basis is Basis.MEASURED and r.best_s for r in job.results)
    return measured and not (request.is_model and request.mode == "cold")


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


def _tune_here(
    request: Request, store: str | None, cancel: threading.Event, compare: bool | None
) -> tuple[Job, tuple[Alternative, ...], Mapping[Workload, Beside]]:
    """As :func:`_tune_there`, and the kernels beside their peers.

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
    _announce(work)
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


def _tune_there(
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
    with connect(server, token=token, tls_ca=tls_ca) as client:
        job = client.submit(
            graph=graph,
            workloads=workloads,
            device=request.device,
            trials=request.trials,
            seconds=request.seconds,
            dims=request.dims,
            seed=request.seed,
            force=request.force,
            mode=request.mode,
            objectives=request.objectives,
            title=Path(request.target).name if graph is not None else request.target,
        )
        stderr.print(f"job {job.id} on {server}", highlight=False)
        return run_there(client, job, cancel), ways


def _announce(work: Work) -> None:
    """Name the nodes that fettle leaves alone, a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for node in work.left_out:
        by_reason.setdefault(node.reason, []).append(node.name)
    if by_reason:
        others = "fettle run executes them with NumPy, or ONNX's reference evaluator"
        stderr.print(f"{len(work.left_out)} node(s) without a kernel ({others}):", highlight=False, soft_wrap=True)
    for reason, names in by_reason.items():
        stderr.print(f"  {reason}: {', '.join(names)}", highlight=False, soft_wrap=True)
