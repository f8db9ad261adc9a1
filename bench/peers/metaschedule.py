"""TVM's MetaSchedule on its own space for a float32 matmul, with as many trials as ours and for as long.

Of one search (:mod:`fettle.bench.peers.metaschedule_search`, in a child process), the fastest kernel after so many
trials and the fastest after so many seconds come back as object files and are checked and timed like any rival.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fettle.backends.cpu import loader, threads
from fettle.backends.cpu.views import empty, prepared
from fettle.bench.peers.rival import Effort, Rival
from fettle.graph import codec
from fettle.graph.errors import Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

_TIMEOUT = 1800.0
"""Seconds that a search may take beyond twice the effort: its last batch, and compiling the winners."""

BUDGETS = {"trials": "as many trials", "seconds": "as long"}
"""What of an effort a winner was limited by, which is its file's name, and how to say so."""


def rivals(
    workload: Workload, operands: Sequence[Operand], count: int, effort: Effort | None, seed: int
) -> list[Rival]:
    """MetaSchedule's winners for a two-dimensional float32 matmul; none for other workloads.

    A part of the effort that was spent before a first kernel was timed has no winner.

    Args:
        count: threads.
        effort: what our own search spent.

    Raises:
        Unsupported: TVM lacks MetaSchedule, its cost model's package xgboost is not installed, the effort is not known,
            or the search failed or hangs.
    """
    values = workload.values
    if workload.operator != "matmul" or str(values["rhs"]) != "f32" or values["batch"] != 1:
        return []
    if not _is_installed("tvm.s_tir.meta_schedule"):
        raise Unsupported("this TVM has no MetaSchedule", hint="pip install apache-tvm==0.27.0.post1")
    if not _is_installed("xgboost"):
        raise Unsupported("MetaSchedule's cost model needs xgboost", hint="pip install xgboost-cpu")
    if effort is None:
        raise Unsupported("the store does not tell what tuning our kernel spent", hint="run with --force")
    with tempfile.TemporaryDirectory(prefix="fettle-") as folder:
        arguments = [*(values[name] for name in "mnk"), effort.trials, effort.seconds, seed, count, folder]
        try:
            done = subprocess.run(
                [sys.executable, "-m", "fettle.bench.peers.metaschedule_search", *map(str, arguments)],
                capture_output=True,
                text=True,
                timeout=_TIMEOUT + 2 * effort.seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise Unsupported(f"MetaSchedule was stopped after {error.timeout:.0f} s") from None
        if done.returncode:
            raise Unsupported(f"MetaSchedule failed: {done.stderr.strip()[-500:]}")
        return [
            _bound(f"tvm MetaSchedule, {BUDGETS[name]}", (Path(folder) / name).read_bytes(), operands, count, spent)
            for name, spent in codec.from_data(dict[str, Effort], json.loads(done.stdout)).items()
        ]


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # a package above it
        return False


def _bound(name: str, payload: bytes, operands: Sequence[Operand], count: int, spent: Effort) -> Rival:
    """A winner's object file on the operands; these start on cache lines, as its kernels want."""
    x, rhs = (np.asarray(o) for o in operands)
    out = empty((x.shape[0], rhs.shape[1]), np.dtype(np.float32))
    function, views = loader.link(payload)[loader.ENTRY], prepared([x, rhs, out])

    def call() -> object:
        threads.use(count)
        function(*views)
        return out

    def result() -> np.ndarray:
        call()
        return out.copy()

    return Rival(name, call, result, effort=spent)
