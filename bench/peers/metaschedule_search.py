"""MetaSchedule's search for a float32 matmul, until an effort is spent: a program of its own.

Its evolutionary search builds and measures in one process (its stock pools of processes take most of the
wall time). That process is a child: stub modules must stand in for tensor intrinsics of other hardware, whose
import takes 14 s, and they would stay.

    python -m fettle.bench.peers.metaschedule_search M N K TRIALS SECONDS SEED THREADS FOLDER
"""

from __future__ import annotations

import json
import logging
import math
import sys
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fettle.backends.cpu import codegen, loader, threads
from fettle.backends.cpu.views import empty
from fettle.backends.registry import resolve_device
from fettle.bench.peers.rival import Effort
from fettle.graph import codec

_OTHER_HARDWARE = ("cuda", "rocm", "hexagon", "arm_cpu", "metal", "riscv_cpu")
_BATCH = 16

_MOST_TRIALS = 1 << 16
"""A limit that the search never meets: it is ended from its builder."""


class Winners:
    """The fastest module so far, kept as it was when each part of an effort was spent.

    Args:
        clock: seconds since the search began.
    """

    def __init__(self, effort: Effort, clock: Callable[[], float]) -> None:
        self._effort = effort
        self._clock = clock
        self._trials = 0
        self._best: Any = None
        self.best_s = math.inf
        self.kept: dict[str, tuple[Any, Effort]] = {}

    def add(self, module: Any, seconds: float) -> None:
        """Count a trial; of one that failed, ``seconds`` are infinite."""
        self._trials += 1
        spent = Effort(self._trials, self._clock())
        if seconds < self.best_s:
            self._best, self.best_s = module, seconds
        if self._best is None:
            return
        if spent.trials <= self._effort.trials:
            self.kept["trials"] = self._best, spent
        if spent.seconds <= self._effort.seconds:
            self.kept["seconds"] = self._best, spent

    @property
    def are_final(self) -> bool:
        """More trials would change nothing."""
        return self._trials >= self._effort.trials and self._clock() >= self._effort.seconds


def search(m: int, n: int, k: int, effort: Effort, seed: int, count: int, folder: Path) -> dict[str, Effort]:
    """Search in this process and write the winners' object files; returns what each winner's search spent."""
    for name in _OTHER_HARDWARE:
        sys.modules[f"tvm.s_tir.tensor_intrin.{name}"] = types.ModuleType(name)
    threads.runtime()
    from tvm.s_tir import meta_schedule as ms

    logging.disable(logging.WARNING)
    _, device = resolve_device(f"cpu,threads={count}")
    target = codegen.target(device)
    rng = np.random.default_rng(seed)
    arrays = [empty(shape, np.dtype(np.float32)) for shape in ((m, k), (k, n), (m, n))]
    for array in arrays:
        array[...] = rng.random(array.shape, np.float32)
    threads.use(count)
    begun = time.monotonic()
    winners = Winners(effort, lambda: time.monotonic() - begun)
    builder, runner = _in_process(ms, target, arrays, folder, winners)
    try:
        ms.tir_integration.tune_tir(
            _product(m, n, k),
            target,
            str(folder),
            _MOST_TRIALS,
            num_trials_per_iter=min(_BATCH, effort.trials),
            builder=builder,
            runner=runner,
            num_tuning_cores=count,
            seed=seed + 1,
        )
    except Exception:  # ours, if the effort is spent; TVM does not promise to keep its class
        if not winners.are_final:
            raise
    if not winners.kept:
        raise SystemExit("no valid schedule was found")
    _write(winners, target, folder)
    return {name: spent for name, (_, spent) in winners.kept.items()}


def _product(m: int, n: int, k: int) -> Any:
    """z = x y in float32, as TVM's tensor expressions say it."""
    from tvm import te

    x, y = te.placeholder((m, k), "float32", name="x"), te.placeholder((k, n), "float32", name="y")
    axis = te.reduce_axis((0, k), "k")
    product = te.compute((m, n), lambda i, j: te.sum(x[i, axis] * y[axis, j], axis=axis), name="z")
    return te.create_prim_func([x, y, product])


def _write(winners: Winners, target: Any, folder: Path) -> None:
    """Compile the winners to object files of their names."""
    import tvm

    for name, (module, _) in winners.kept.items():
        winner = module["main"].with_attr("global_symbol", loader.ENTRY)
        compiled = tvm.compile(tvm.IRModule({loader.ENTRY: winner}), target=target)
        compiled.mod.write_to_file(str(folder / "winner.o"), "o")
        (folder / "winner.o").rename(folder / name)


class _Spent(Exception):
    """Ends a search."""


def _in_process(ms: Any, target: Any, arrays: Sequence[np.ndarray], folder: Path, winners: Winners) -> tuple[Any, Any]:
    """A builder and a runner that stay in this process; kernels much slower than the best are timed once.

    MetaSchedule removes the folder of every artifact, so each gets one.
    """
    import tvm
    from tvm.ir.utils import derived_object

    libraries: dict[str, tuple[Any, Any]] = {}
    tensors = [tvm.runtime.from_dlpack(array) for array in arrays]

    @derived_object
    class Builder(ms.builder.PyBuilder):  # type: ignore[misc]
        def build(self, inputs: Any) -> list[Any]:
            if winners.are_final:
                raise _Spent
            results = []
            for wanted in inputs:
                try:
                    library = tvm.compile(wanted.mod, target=target)
                    library["main"]
                    place = folder / f"artifact{len(libraries)}"
                    place.mkdir()
                    libraries[str(place / "kernel")] = library, wanted.mod
                    results.append(ms.builder.BuilderResult(str(place / "kernel"), None))
                except Exception as error:  # a schedule that does not compile is a result
                    winners.add(None, math.inf)
                    results.append(ms.builder.BuilderResult(None, str(error)))
            return results

    @derived_object
    class Runner(ms.runner.PyRunner):  # type: ignore[misc]
        def run(self, inputs: Any) -> list[Any]:
            return [ms.runner.local_runner.LocalRunnerFuture([self._time(str(i.artifact_path))], None) for i in inputs]

        def _time(self, name: str) -> float:
            library, scheduled = libraries[name]
            module = library.mod
            seconds = float(module.time_evaluator("main", tvm.cpu(0), number=1, repeat=1)(*tensors).mean)
            if seconds <= 4 * winners.best_s:
                timed = module.time_evaluator("main", tvm.cpu(0), number=1, repeat=3, min_repeat_ms=30)(*tensors)
                seconds = float(np.median(timed.results))
            winners.add(scheduled, seconds)
            return seconds

    return Builder(), Runner()


def main(m: str, n: str, k: str, trials: str, seconds: str, seed: str, count: str, folder: str) -> None:
    """The child's program; prints one JSON object."""
    effort = Effort(int(trials), float(seconds))
    spent = search(int(m), int(n), int(k), effort, int(seed), int(count), Path(folder))
    print(json.dumps(codec.to_data(spent)))


if __name__ == "__main__":
    main(*sys.argv[1:])
