"""What ``fettle tune`` ends with, for people: a table of workloads, their sum, and trade-offs."""

from __future__ import annotations

import math
import shlex
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from fettle.cli.output import joules, of_bound, print_table, seconds, speedup, stdout

if TYPE_CHECKING:
    from fettle.bench.beside import Beside
    from fettle.graph.sharing import Comparison
    from fettle.graph.workload import Workload
    from fettle.store.jobs import Job, WorkloadResult

_PEER = "than peer"
_DISTURBED = 0.05
"""Share of the measuring time waited for others from which on the times are said to be too long."""
_HEADINGS = ("×", "trials", "failed", "default", "best", "than default", _PEER, "of bound", "verified", "from")


def print_results(job: Job, peers: Mapping[Workload, Beside] | None = None, is_pass: bool = False) -> None:
    """The table, and a Pareto front for each workload that has one.

    Args:
        peers: what the kernels were compared with.
        is_pass: the workloads, as often as each occurs, are one pass of a model.
    """
    print_table(_table(job, peers or {}, is_pass), folded=("workload",))
    for r in job.results:
        if r.front:
            table = Table(title=f"trade-offs of {r.workload}", title_justify="left")
            for heading in ("time", "energy", "artifact", "schedule"):
                table.add_column(heading, justify="left" if heading == "schedule" else "right")
            for t in r.front:
                size = "–" if t.bytes is None else f"{t.bytes} B"
                table.add_row(seconds(t.seconds), joules(t.joules), size, str(t.schedule))
            print_table(table, folded=("schedule",))
    if line := disturbed_line(job.results):
        stdout.print(line, style="yellow", highlight=False, soft_wrap=True)
    missing: dict[str, list[str]] = {}
    for workload, found in (peers or {}).items():
        if found.missing:
            missing.setdefault(found.missing, []).append(str(workload))
    for reason, workloads in missing.items():
        names = "; ".join(workloads) if len(workloads) < len(job.results) else "the kernels"
        stdout.print(f"no peer beside {names}: {reason}", highlight=False)


def disturbed_line(results: Sequence[WorkloadResult]) -> str:
    """That times may be too long since other processes took the processors meanwhile; empty if they did not."""
    disturbed = [r for r in results if r.waited is not None and r.waited >= _DISTURBED]
    if not disturbed:
        return ""
    most = max(r.waited or 0.0 for r in disturbed)
    up_to = "up to " if len(disturbed) > 1 else ""
    which, names = "the kernels", ""
    if len(disturbed) < len(results):
        which = f"{len(disturbed)} of {len(results)} kernels"
        names = "".join(f"\n  {r.workload}" for r in disturbed)
    return (
        f"times may be too long: {which} waited {up_to}{100 * most:.0f} % of the time in which they were measured, "
        f"since other processes used the processors. Stop those, then tune again with --force{names}"
    )


def next_step(
    target: str,
    is_model: bool,
    device: str,
    dims: Mapping[str, int] | None = None,
    store: str | None = None,
    mode: str = "hot",
) -> str:
    """How to use what was tuned, to be pasted: from Python, and for a model also from the command line."""
    named = f', store="{store}"' if store else ""
    if not is_model:
        cold = f', mode="{mode}"' if mode != "hot" else ""
        return f'in Python: fettle.lookup("{target}", "{device}"{cold}{named})'
    sizes = "".join(f" --dim {name}={size}" for name, size in (dims or {}).items())
    at = f" --store {shlex.quote(store)}" if store else ""
    bound = f", dims={dict(dims)}" if dims else ""
    return (
        f"whole passes, checked and timed: fettle run {shlex.quote(target)} --device {device}{sizes}{at}\n"
        f'in Python: fettle.load("{target}", "{device}"{bound}{named})'
    )


def _table(job: Job, peers: Mapping[Workload, Beside], is_pass: bool) -> Table:
    names = {found.peer for found in peers.values() if found.peer}
    table = Table(title=f"{job.spec.title} on {job.spec.device.label or job.spec.device}", title_justify="left")
    table.add_column("workload")
    headings = [heading for heading in _HEADINGS if names or heading != _PEER]
    for heading in headings:
        common = heading == _PEER and len(names) == 1
        table.add_column(f"than {min(names)}" if common else heading, justify="right")

    def add(label: Text, cells: dict[str, str]) -> None:
        table.add_row(label, *(cells[heading] for heading in headings))

    for r in job.results:
        peer = peers.get(r.workload)
        add(*_cells(r, peer, peer.peer if peer is not None and len(names) > 1 else ""))
    if is_pass and len(job.results) > 1 and all(r.best_s for r in job.results):
        table.add_section()
        add(*_sum(job.results, peers))
    return table


def _cells(r: WorkloadResult, peer: Beside | None, peer_name: str) -> tuple[Text, dict[str, str]]:
    gain = speedup(peer.peer_s, peer.ours_s) if peer is not None else "–"
    label = Text(str(r.workload)).append(f"\n{r.error}", "red") if r.error else Text(str(r.workload))
    return label, {
        "×": str(r.count),
        "trials": str(r.trials),
        "failed": str(r.failed),
        "default": seconds(r.default_s),
        "best": seconds(r.best_s),
        "than default": speedup(r.default_s, r.best_s),
        _PEER: f"{gain} {peer_name}".rstrip(),
        "of bound": of_bound(r.bound_s, r.best_s, r.bound),
        "verified": "yes" if r.verified else "no",
        "from": _source(r),
    }


def _sum(results: Sequence[WorkloadResult], peers: Mapping[Workload, Beside]) -> tuple[Text, dict[str, str]]:
    """All kernels of a pass, each as often as it occurs; a share or ratio only where every kernel has its part."""

    def total(values: Iterable[float | None]) -> float | None:
        parts = [value * r.count for value, r in zip(values, results, strict=True) if value]
        return math.fsum(parts) if len(parts) == len(results) else None

    found = [peers.get(r.workload) for r in results]
    ours, theirs = (total(getattr(p, name, None) for p in found) for name in ("ours_s", "peer_s"))
    default, best = total(r.default_s for r in results), total(r.best_s for r in results)
    bound = total(r.bound_s for r in results)
    return Text("all kernels of one pass"), {
        "×": str(sum(r.count for r in results)),
        "trials": str(sum(r.trials for r in results)),
        "failed": str(sum(r.failed for r in results)),
        "default": seconds(default),
        "best": seconds(best),
        "than default": speedup(default, best),
        _PEER: speedup(theirs, ours),
        "of bound": of_bound(bound, best),
        "verified": "yes" if all(r.verified for r in results) else "no",
        "from": ", ".join(sorted({_source(r) for r in results})),
    }


def _source(result: WorkloadResult) -> str:
    """Where a result's times come from."""
    if result.cached:
        return "cache"
    return "–" if result.best_s is None else result.basis.value


def sharing_line(comparison: Comparison) -> str:
    """One way to share the preparation of activations, for people."""
    way = comparison.alternative
    names = ", ".join(node.name for node in way.apart)
    verdict = "faster" if comparison.is_faster else "not surely faster"
    together, apart = (seconds(None if s is None else s.median) for s in (comparison.together, comparison.apart))
    sums = f"{together} together, {apart} apart"
    return f"{way.tensor} prepared once as {way.format} for {names}: {sums}: {verdict}"
