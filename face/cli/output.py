"""How the command line prints: exit codes, JSON, tables, units."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table

if TYPE_CHECKING:
    from fettle.bench.beside import Beside
    from fettle.graph.errors import FettleError
    from fettle.graph.workload import Workload
    from fettle.store.jobs import Job, WorkloadResult
    from fettle.store.kernels import Kernel

DONE, FAILED, USAGE, NOT_FOUND, INTERRUPTED = 0, 1, 2, 3, 130

_PIPE_WIDTH = 160
"""Columns of a table that goes to a file or pipe, where no terminal says how many there are."""

_LEAST_FOLDED = 20
"""Columns into which a text may be folded; in fewer, lines are read more easily than a table."""
_UNLIMITED = 10_000
"""Columns to measure a table in: within those of the terminal it would always seem to fit."""


def _console(stream: TextIO) -> Console:
    """Without markup: what is printed may have brackets of its own, as ``pip install 'fettle-tuner[triton]'`` has."""
    return Console(file=stream, width=None if stream.isatty() else _PIPE_WIDTH, markup=False)


stdout = _console(sys.stdout)
stderr = _console(sys.stderr)


def print_json(value: Any) -> None:
    """One JSON object on stdout and nothing else."""
    print(json.dumps(value, allow_nan=False, default=str), flush=True)


def print_table(table: Table, folded: Sequence[str] = (), empty: str = "") -> None:
    """A table whose columns stay whole, but for those with the ``folded`` headings.

    Where a terminal is too narrow for that, lines that give each figure after its heading, and nothing of empty cells.
    A table without rows is said in words: ``empty``.
    """
    if empty and not table.rows:
        stdout.print(empty, highlight=False)
        return
    for column in table.columns:
        widest = max(cell_len(str(text)) for text in (column.header, *column.cells))
        is_folded = column.header in folded
        column.overflow, column.no_wrap = "fold", not is_folded
        column.min_width = column.max_width = min(widest, _LEAST_FOLDED) if is_folded else widest
    unlimited = stdout.options.update(width=_UNLIMITED)
    if Measurement.get(stdout, unlimited, table).minimum <= stdout.width:
        for column in table.columns:
            column.max_width = None
        stdout.print(table)
        return
    if table.title:
        stdout.print(table.title, style="italic", highlight=False)
    headings = [str(column.header) for column in table.columns]
    for name, *cells in zip(*(column.cells for column in table.columns), strict=True):
        stdout.print(name, style="bold", highlight=False)
        figures = "; ".join(f"{heading} {cell}" for heading, cell in zip(headings[1:], cells, strict=True) if str(cell))
        stdout.print(Padding(figures, (0, 0, 0, 2)), highlight=False)


def seconds(value: float | None) -> str:
    """A time with three significant digits and a fitting unit."""
    return _with_unit(value, "s")


def joules(value: float | None) -> str:
    """An energy likewise."""
    return _with_unit(value, "J")


def _with_unit(value: float | None, unit: str) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    rounded = float(f"{value:.3g}")  # first: 999.9 µs are 1 ms
    for prefix, scale in (("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9)):
        if rounded >= scale:
            return f"{rounded / scale:{'.0f' if rounded >= 1000.0 else '.3g'}} {prefix}{unit}"
    return f"{rounded:.3g} {unit}"


def finite(value: float) -> float | None:
    """None for what JSON cannot say: a default schedule that never gave a right result has no time."""
    return value if math.isfinite(value) else None


def speedup(default: float | None, best: float | None) -> str:
    """How many times faster than the default, for people."""
    return f"{default / best:.2f}x" if default and best and math.isfinite(default) else "–"


def result_json(result: WorkloadResult) -> dict[str, Any]:
    """One workload of ``fettle tune --json``; times are medians in seconds."""
    return {
        "workload": str(result.workload),
        "key": result.workload.key,
        "count": result.count,
        "trials": result.trials,
        "failed": result.failed,
        "verified": result.verified,
        "cached": result.cached,
        "basis": result.basis.value,
        "max_error": result.max_error,
        "error_ratio": result.error_ratio,
        "default_s": result.default_s,
        "best_s": result.best_s,
        "speedup": result.speedup,
        "best_ci_s": list(result.best_ci) if result.best_ci else None,
        "waited": result.waited,
        "bound_s": result.bound_s,
        "bound": result.bound,
        "spearman": result.spearman,
        "pairwise": result.pairwise,
        "top1_regret": result.top1_regret,
        "top5_regret": result.top5_regret,
        "coverage": result.coverage,
        "schedule": result.schedule.as_dict() if result.schedule else None,
        "artifact": result.artifact_sha256 or None,
        "seconds": result.seconds,
        "error": result.error or None,
        "front": [
            {"schedule": t.schedule.as_dict(), "seconds": t.seconds, "joules": t.joules, "bytes": t.bytes}
            for t in result.front
        ],
    }


def job_json(job: Job) -> dict[str, Any]:
    """What ``fettle tune --json`` prints."""
    return {
        "job": job.id,
        "state": job.state.value,
        "device": str(job.spec.device),
        "workloads": [result_json(r) for r in job.results],
        "error": job.error or None,
    }


def peer_json(workload: Workload, found: Beside) -> dict[str, Any]:
    """A kernel beside its fastest peer, as ``fettle tune --compare --json`` prints it; seconds a call."""
    return {
        "workload": str(workload),
        "peer": found.peer or None,
        "ours_s": found.ours_s,
        "peer_s": found.peer_s,
        "speedup": found.speedup,
        "missing": found.missing or None,
    }


def error_json(error: FettleError) -> dict[str, Any]:
    """What a command with ``--json`` prints when it fails."""
    return {
        "error": {
            "kind": type(error).__name__,
            "message": error.message,
            "hint": error.hint or None,
            "details": error.details,
        }
    }


def kernel_json(kernel: Kernel) -> dict[str, Any]:
    """A cached kernel, as ``lookup`` and ``cache list`` print it."""
    return {
        "key": kernel.key,
        "workload": str(kernel.workload),
        "device": str(kernel.device),
        "device_key": kernel.device.key,
        "mode": kernel.mode,
        "basis": kernel.basis.value,
        "schedule": kernel.schedule.as_dict(),
        "artifact": kernel.artifact_sha256,
        "default_s": finite(kernel.default_s),
        "best_s": kernel.best_s,
        "speedup": finite(kernel.default_s / kernel.best_s),
        "best_ci_s": list(kernel.best_ci),
        "bound_s": kernel.bound_s,
        "bound": kernel.bound,
        "max_error": finite(kernel.max_error),
        "toolchain": kernel.toolchain,
        "abi": kernel.abi,
        "isa": list(kernel.isa),
        "space_version": kernel.space_version,
        "trials": kernel.trials,
        "job": kernel.job_id,
        "created": kernel.created,
    }


def plain(value: Any) -> Any:
    """Plain data of a domain value, for ``--json``."""
    from fettle.graph import codec

    return codec.to_data(value)
