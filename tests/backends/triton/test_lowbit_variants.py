"""Every format of weights by every way its space has to compute it, in the interpreter, against float64."""

from __future__ import annotations

import zlib

import attrs
import numpy as np
import pytest

from fettle.backends.api import Candidate, MeasurePolicy, Schedule
from fettle.backends.host.local import LocalExecutor
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space
from fettle.backends.triton.lowbit.layouts import values_in
from fettle.backends.triton.lowbit.spread import WORD
from fettle.graph.formats import MINIFLOATS, Format
from fettle.graph.workload import Workload

INTEGERS = [f"u{bits}:64{zero_points}" for bits in range(1, 9) for zero_points in ("", ":zp")]
SCALES = ["u4:row", "u3:row/f32", "u4:64/f32", "u8:row", "u7:128"]
SIGNS = ["tern:64", "bip1:64", "bcq1:64", "bcq2:64", "bcq3:64", "bcq4:64", "bcq1:128/f32", "bcq4:row"]
BLOCKS = ["mxfp4", "mxfp6", "f6e2m3:32/e8m0", "mxfp8", "f8e5m2:32/e8m0", "mxint8",
          "nvfp4", "f6e3m2:32/e4m3", "f8e4m3:32/e4m3"]  # fmt: skip
TOO_WIDE = ("f6e5m0", "f7e5m1", "f7e6m0", "f8e6m1", "f8e7m0")
"""Minifloats whose largest numbers f16 has not."""
SPLITS = [*(f"{kind}:64" for kind in MINIFLOATS), "f8e6m1:64/f32", "f8e7m0:64/f32"]
"""Of a minifloat's bits; of the widest, all numbers are drawn only with scales of f32."""
FORMATS = [*INTEGERS, *SCALES, *SIGNS, *BLOCKS, *SPLITS]

WAYS = ("algorithm", "method", "scale", "planes")
"""Parameters whose combinations are ways to make numbers of codes and to scale them; sides, layout, order and parts are
drawn for each."""
SMALL = {"block_m": (8, 16), "block_n": (32,), "block_k": (64, 128, 256), "split": (1, 2), "warps": (2,),
         "stages": (2,), "registers": (0,), "overlap": (False,)}  # fmt: skip


def ways(workload: Workload, algorithm: str | None = None) -> list[Schedule]:
    """A schedule of small tiles for each way of the space, or of an algorithm's."""
    backend, device = resolve_device("triton:interpreter")
    space = backend.space(workload, device)
    small = [
        attrs.evolve(p, choices=tuple(c for c in p.choices if c in SMALL.get(p.name, p.choices)) or p.choices[:1])
        for p in space.parameters
    ]
    points = enumerate_space(attrs.evolve(space, parameters=tuple(small)))
    found: dict[tuple[object, ...], Schedule] = {}
    for index in np.random.default_rng(zlib.crc32(str(workload).encode())).permutation(points.size):
        schedule = points[int(index)]
        if algorithm in (None, schedule["algorithm"]):
            found.setdefault(tuple(schedule[name] for name in WAYS), schedule)
    return list(found.values())


def wrong(executor: LocalExecutor, workload: Workload, schedules: list[Schedule], exact: float = 1e-4) -> list[str]:
    """What is wrong with each of some schedules, if anything is: also, to be more exact than its numbers allow."""
    candidates = [Candidate(workload, executor.device, schedule) for schedule in schedules]
    with executor.open(workload, MeasurePolicy(timeout=60.0), seed=0) as session:
        builds = session.build(candidates)
        assert all(build.artifact is not None for build in builds), [build.failure for build in builds]
        trials = [(b.candidate, session.evaluate(b.candidate, b.artifact)) for b in builds if b.artifact is not None]
    return [
        f"{candidate.schedule}: {trial.error_ratio}, {trial.measurement.message}"
        for candidate, trial in trials
        if not trial.verified or trial.error_ratio is None or trial.error_ratio < exact
    ]


def product(weight: str, act: str, compute: str) -> Workload:
    """Of 20 columns, tiles have 32; K fits two blocks of any width."""
    fmt = Format.parse(weight)
    k = max(256, 32 * values_in(1 if fmt.is_binary_coded else fmt.bits, WORD))
    return Workload.parse(f"matmul m=3 n=20 k={k} act={act} weight={weight} compute={compute}")


@pytest.mark.parametrize(
    ("weight", "act"),
    [
        (weight, act)
        for weight in FORMATS
        for act in ("f16", "bf16")
        if act == "bf16" or not weight.startswith(TOO_WIDE)
    ],
)
def test_every_way_to_compute_a_format_is_right(interpreter: LocalExecutor, weight: str, act: str) -> None:
    workload = product(weight, act, act)
    schedules = ways(workload)
    assert {schedule["method"] for schedule in schedules} >= {"convert", "ptx"}
    assert not wrong(interpreter, workload, schedules)


@pytest.mark.parametrize(("number", "weight"), list(enumerate([*INTEGERS[:-1], "u4:row", "tern:64", "bip1:64"])))
def test_every_integer_can_be_multiplied_as_bytes(interpreter: LocalExecutor, weight: str, number: int) -> None:
    """W1A8 … W8A8; eight bits of activations are not exact."""
    workload = product(weight, ("f16", "bf16")[number % 2], "i8")
    schedules = ways(workload, "integer")
    assert schedules
    assert not wrong(interpreter, workload, schedules, exact=1e-3)
