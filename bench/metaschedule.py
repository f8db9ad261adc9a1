"""A baseline: TVM's MetaSchedule on its own space for a float32 matmul, with as many trials as ours.

Its evolutionary search builds and measures in one process (its stock pools of processes take most of the
wall time). That process is a child: stub modules must stand in for tensor intrinsics of other hardware, whose
import takes 14 s, and they would stay. The winner comes back as an object file and is timed like any rival.

    python -m fettle.bench.metaschedule M N K TRIALS SEED THREADS OBJECT_FILE
"""

from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
import tempfile
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fettle.backends.cpu import codegen, loader, threads
from fettle.backends.cpu.views import empty, prepared
from fettle.backends.registry import resolve_device
from fettle.bench.peers.rival import Rival
from fettle.graph.errors import Unsupported
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload

_OTHER_HARDWARE = ("cuda", "rocm", "hexagon", "arm_cpu", "metal", "riscv_cpu")
_BATCH = 16
_TIMEOUT = 1800.0

OBJECT = "metaschedule.o"


def rival(workload: Workload, operands: Sequence[Operand], count: int, trials: int, seed: int) -> list[Rival]:
    """MetaSchedule's winner for a two-dimensional float32 matmul; none for other workloads.

    Raises:
        Unsupported: its cost model's package xgboost is not installed, or the search failed.
    """
    values = workload.values
    if workload.operator != "matmul" or str(values["rhs"]) != "f32" or values["batch"] != 1:
        return []
    if importlib.util.find_spec("xgboost") is None:
        raise Unsupported("MetaSchedule's cost model needs xgboost", hint="pip install xgboost")
    with tempfile.TemporaryDirectory(prefix="fettle-") as folder:
        path = Path(folder) / OBJECT
        arguments = [str(values[name]) for name in "mnk"] + [str(trials), str(seed), str(count), str(path)]
        done = subprocess.run(
            [sys.executable, "-m", "fettle.bench.metaschedule", *arguments],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        if done.returncode or not path.exists():
            raise Unsupported(f"MetaSchedule failed: {done.stderr.strip()[-500:]}")
        module = loader.link(path.read_bytes())
    x, rhs = (np.asarray(o) for o in operands)
    out = empty(workload.result.shape, np.dtype(np.float32))
    function, views = module[loader.ENTRY], prepared([x, rhs, out])  # all start on cache lines, as its kernels want

    def call() -> object:
        threads.use(count)
        function(*views)
        return out

    def result() -> np.ndarray:
        call()
        return out.copy()

    return [Rival(f"tvm MetaSchedule, {trials} trials", call, result)]


def search(m: int, n: int, k: int, trials: int, seed: int, count: int, path: Path) -> None:
    """Search in this process and write the winner's object file."""
    for name in _OTHER_HARDWARE:
        sys.modules[f"tvm.s_tir.tensor_intrin.{name}"] = types.ModuleType(name)
    threads.runtime()
    import tvm
    from tvm import te
    from tvm.s_tir import meta_schedule as ms

    logging.disable(logging.WARNING)
    _, device = resolve_device(f"cpu,threads={count}")
    target = codegen.target(device)
    x, y = te.placeholder((m, k), "float32", name="x"), te.placeholder((k, n), "float32", name="y")
    axis = te.reduce_axis((0, k), "k")
    product = te.compute((m, n), lambda i, j: te.sum(x[i, axis] * y[axis, j], axis=axis), name="z")
    function = te.create_prim_func([x, y, product])
    rng = np.random.default_rng(seed)
    arrays = [empty(shape, np.dtype(np.float32)) for shape in ((m, k), (k, n), (m, n))]
    for array in arrays:
        array[...] = rng.random(array.shape, np.float32)
    threads.use(count)
    with tempfile.TemporaryDirectory(prefix="fettle-") as folder:
        builder, runner = _in_process(ms, target, arrays, Path(folder))
        database = ms.tir_integration.tune_tir(
            function,
            target,
            folder,
            trials,
            num_trials_per_iter=min(_BATCH, trials),
            builder=builder,
            runner=runner,
            num_tuning_cores=count,
            seed=seed + 1,
        )
        schedule = ms.tir_integration.compile_tir(database, function, target)
    if schedule is None:
        raise SystemExit("no valid schedule was found")
    winner = schedule.mod["main"].with_attr("global_symbol", loader.ENTRY)
    compiled = tvm.compile(tvm.IRModule({loader.ENTRY: winner}), target=target)
    compiled.mod.write_to_file(str(path), "o")


def _in_process(ms: Any, target: Any, arrays: Sequence[np.ndarray], folder: Path) -> tuple[Any, Any]:
    """A builder and a runner that stay in this process; kernels much slower than the best are timed once.

    MetaSchedule removes the folder of every artifact, so each gets one.
    """
    import tvm
    from tvm.ir.utils import derived_object

    libraries: dict[str, Any] = {}
    tensors = [tvm.runtime.from_dlpack(array) for array in arrays]
    best = [float("inf")]

    @derived_object
    class Builder(ms.builder.PyBuilder):  # type: ignore[misc]
        def build(self, inputs: Any) -> list[Any]:
            results = []
            for wanted in inputs:
                try:
                    library = tvm.compile(wanted.mod, target=target)
                    library["main"]
                    place = folder / f"artifact{len(libraries)}"
                    place.mkdir()
                    libraries[str(place / "kernel")] = library
                    results.append(ms.builder.BuilderResult(str(place / "kernel"), None))
                except Exception as error:  # a schedule that does not compile is a result
                    results.append(ms.builder.BuilderResult(None, str(error)))
            return results

    @derived_object
    class Runner(ms.runner.PyRunner):  # type: ignore[misc]
        def run(self, inputs: Any) -> list[Any]:
            return [ms.runner.local_runner.LocalRunnerFuture([self._time(str(i.artifact_path))], None) for i in inputs]

        def _time(self, name: str) -> float:
            module = libraries[name].mod
            seconds = float(module.time_evaluator("main", tvm.cpu(0), number=1, repeat=1)(*tensors).mean)
            if seconds <= 4 * best[0]:
                timed = module.time_evaluator("main", tvm.cpu(0), number=1, repeat=3, min_repeat_ms=30)(*tensors)
                seconds = float(np.median(timed.results))
            best[0] = min(best[0], seconds)
            return seconds

    return Builder(), Runner()


if __name__ == "__main__":
    size_m, size_n, size_k, wanted_trials, wanted_seed, thread_count = map(int, sys.argv[1:7])
    search(size_m, size_n, size_k, wanted_trials, wanted_seed, thread_count, Path(sys.argv[7]))
