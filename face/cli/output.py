"""How the command line prints: exit codes, JSON, tables, units."""

from __future__ import annotations

import json
import math
import sys
from typing import Any, TextIO

from rich.console import Console
from rich.table import Table

from fettle.graph import codec
from fettle.graph.errors import FettleError
from fettle.graph.sharing import Comparison
from fettle.store.values import Job, Kernel, WorkloadResult

DONE, FAILED, USAGE, NOT_FOUND, INTERRUPTED = 0, 1, 2, 3, 130

_PIPE_WIDTH = 160
"""Columns of a table that goes to a file or pipe, where no terminal says how many there are."""


def _console(stream: TextIO) -> Console:
    return Console(file=stream, width=None if stream.isatty() else _PIPE_WIDTH)


stdout = _console(sys.stdout)
stderr = _console(sys.stderr)


def print_json(value: Any) -> None:
    """One JSON object on stdout and nothing else."""
    print(json.dumps(value, allow_nan=False, default=str), flush=True)


def seconds(value: float | None) -> str:
    """A time with three significant digits and a fitting unit."""
    return _with_unit(value, "s")


def joules(value: float | None) -> str:
    """An energy likewise."""
    return _with_unit(value, "J")


def _with_unit(value: float | None, unit: str) -> str:
    if value is None or not math.isfinite(value):
        return "–"
    for prefix, scale in (("", 1.0), ("m", 1e-3), ("µ", 1e-6), ("n", 1e-9)):
        if value >= scale:
            return f"{value / scale:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


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


def results_table(job: Job) -> Table:
    """The table ``fettle tune`` ends with."""
    table = Table(title=f"{job.spec.title} on {job.spec.device.label or job.spec.device}", title_justify="left")
    table.add_column("workload", overflow="fold")
    for heading in ("×", "trials", "failed", "default", "best", "speed-up", "of bound", "verified", "from"):
        table.add_column(heading, justify="right", no_wrap=True)
    for r in job.results:
        share = f"{100 * r.bound_s / r.best_s:.0f} % {r.bound}" if r.bound_s and r.best_s else "–"
        table.add_row(
            str(r.workload) if not r.error else f"{r.workload}\n[red]{r.error}[/red]",
            str(r.count),
            str(r.trials),
            str(r.failed),
            seconds(r.default_s),
            seconds(r.best_s),
            speedup(r.default_s, r.best_s),
            share,
            "yes" if r.verified else "no",
            _source(r),
        )
    return table


def _source(result: WorkloadResult) -> str:
    """Where a result's times come from."""
    if result.cached:
        return "cache"
    return "–" if result.best_s is None else result.basis.value


def print_results(job: Job) -> None:
    """The table, and a Pareto front for each workload that has one."""
    stdout.print(results_table(job))
    for r in job.results:
        if r.front:
            table = Table(title=f"trade-offs of {r.workload}", title_justify="left")
            for heading in ("time", "energy", "artifact", "schedule"):
                table.add_column(heading, justify="left" if heading == "schedule" else "right", overflow="fold")
            for t in r.front:
                joules = "–" if t.joules is None else f"{t.joules:.3g} J"
                table.add_row(seconds(t.seconds), joules, "–" if t.bytes is None else f"{t.bytes} B", str(t.schedule))
            stdout.print(table)


def sharing_line(comparison: Comparison) -> str:
    """One way to share the preparation of activations, for people."""
    way = comparison.alternative
    names = ", ".join(node.name for node in way.apart)
    verdict = "faster" if comparison.is_faster else "not surely faster"
    together, apart = (seconds(None if s is None else s.median) for s in (comparison.together, comparison.apart))
    sums = f"{together} together, {apart} apart"
    return f"{way.tensor} prepared once as {way.format} for {names}: {sums}: {verdict}"


def plain(value: Any) -> Any:
    """Plain data of a domain value, for ``--json``."""
    return codec.to_data(value)
