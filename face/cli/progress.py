"""Progress of a job on stderr: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from fettle.cli.output import seconds, speedup

if TYPE_CHECKING:
    from fettle.store.jobs import JobEvent

_LINE_EVERY = 5.0
"""Seconds between lines when stderr is no terminal."""

_FIGURES = 45
"""Columns for what stands beside the bar and the workload: counts, the best time, and times."""


class JobProgress:
    """Shows a job's events: trials done, best so far, failures, time left."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._live = console.is_terminal
        bar = min(24, console.width // 5)
        self._label = max(20, min(48, console.width - bar - _FIGURES))
        self._last_line = -_LINE_EVERY
        self._failed = 0
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=bar),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            console=console,
            disable=not self._live,
            transient=True,
        )
        self._task = self._progress.add_task(self._short(title), total=None, note="starting")

    def __enter__(self) -> JobProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def show(self, event: JobEvent) -> None:
        """Take in one event; safe to call from any thread."""
        data = event.data
        if event.kind == "trial":
            self._trial(data)
        elif event.kind == "phase":
            self._phase(str(data.get("phase", "")), str(data.get("workload", "")))
        elif event.kind == "result":
            self._result(data)
        elif event.kind == "state":
            self._note(str(data.get("state", "")))

    def _trial(self, data: dict[str, Any]) -> None:
        self._failed = int(data.get("failed", self._failed))
        left = data.get("eta_s")
        note = f"best {seconds(data.get('best_s'))}"
        if self._failed:
            note += f", {self._failed} failed"
        if left is not None:
            note += f", {float(left):.0f} s left"
        done, total = data.get("done"), data.get("total")
        self._progress.update(
            self._task,
            completed=done,
            total=total,
            description=self._short(str(data.get("workload", ""))),
            note=note,
        )
        if not self._live and time.monotonic() - self._last_line >= _LINE_EVERY:
            self._last_line = time.monotonic()
            self._console.print(
                f"{done}/{total} trials, {self._short(str(data.get('workload', '')))}: {note}", highlight=False
            )

    def _phase(self, phase: str, workload: str) -> None:
        if self._live and workload:
            self._progress.update(self._task, description=self._short(workload), note=phase)
        else:
            self._note(f"{phase}: {self._short(workload)}" if workload else phase)

    def _note(self, text: str) -> None:
        self._progress.update(self._task, note=text)
        if not self._live and time.monotonic() - self._last_line >= _LINE_EVERY:
            self._last_line = time.monotonic()
            self._console.print(text, highlight=False)

    def _result(self, data: dict[str, Any]) -> None:
        best, default = data.get("best_s"), data.get("default_s")
        if best is None:
            text = f"no kernel: {data.get('error', '')}"
        else:
            text = f"{seconds(best)} ({speedup(default, best)} the default)"
        workload = data.get("workload", "")
        if isinstance(workload, dict):
            workload = " ".join([workload["operator"], *(f"{k}={v}" for k, v in workload["fields"])])
        mark = ("✗", "") if best is None else ("✓", "green")
        self._console.print(Text.assemble(mark, f" {workload}: {text}"))

    def _short(self, text: str) -> str:
        return text if len(text) <= self._label else text[: self._label - 1] + "…"
