"""``fettle tune``."""

from __future__ import annotations

import shlex
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fettle.backends.api import Basis
from fettle.cli.asjson import job_json, peer_json
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
from fettle.cli.output import DONE, FAILED, INTERRUPTED, print_json, stdout
from fettle.cli.requests import Request, tune_here, tune_there
from fettle.cli.results import next_step, print_results, sharing_line
from fettle.graph.errors import InvalidArgument
from fettle.sharing import compare_results, sharing_json
from fettle.store.jobs import Job, JobState
from fettle.store.specs import OBJECTIVES

if TYPE_CHECKING:
    from fettle.bench.beside import Beside
    from fettle.graph.workload import Workload

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
        trials=trials,
        seconds=time,
        dims=dims,
        seed=seed,
        force=force,
        mode="cold" if cold else "hot",
        objectives=objectives.split(","),
        share=tuple(share_activations.split(",")) if share_activations else (),
    )
    cancel = threading.Event()
    peers: Mapping[Workload, Beside] = {}
    if server is None:
        job, ways, peers = tune_here(request, store, cancel, False if json and compare is None else compare)
    elif store is not None:
        raise InvalidArgument("--store and --server exclude each other", hint="the server has its own store")
    elif compare:
        raise InvalidArgument("--compare and --server exclude each other", hint="kernels are compared where they run")
    else:
        job, ways = tune_there(request, server, token, tls_ca, cancel)
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
        if server is None and any(r.failed for r in job.results):
            at = f" --store {shlex.quote(store)}" if store else ""
            stdout.print(f"why trials failed: fettle jobs show {job.id}{at}", highlight=False, soft_wrap=True)
        if server is None and job.state is JobState.DONE and _is_usable(job, request):
            line = next_step(target, request.is_model, device, dims, store, request.mode)
            stdout.print(line, highlight=False, soft_wrap=True)
        if server is None and job.spec.device.backend == "triton" and _is(Basis.PREDICTED, job):
            at = f" --store {shlex.quote(store)}" if store else ""
            line = f"to measure them on that GPU: fettle jobs shortlist {job.id}{at} -o shortlist.json"
            stdout.print(
                f"{line}, then there: fettle gpu-measure --in shortlist.json --out results",
                highlight=False,
                soft_wrap=True,
            )
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
    return _is(Basis.MEASURED, job) and not (request.is_model and request.mode == "cold")


def _is(basis: Basis, job: Job) -> bool:
    """Whether the job found kernels for all its workloads, on this basis."""
    return all(r.best_s and r.basis is basis for r in job.results)
