"""The emitted code: dot products in the inner loop, none of its sums spilled, each weight decoded once a band."""

from __future__ import annotations

import re
from typing import Any

import pytest

from fettle.backends.api import Candidate, Device, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend, codegen
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.gemm import Gemm, spaces
from fettle.graph.workload import Workload

_STACK_VECTOR = re.compile(r"[-\w]*\(%r[sb]p\),?.*%zmm|%zmm\d+,\s*[-\w]*\(%r[sb]p\)")


def inner_loop(backend: CpuBackend, text: str, **changes: Any) -> list[str]:
    """Instructions from the innermost loop's label to its branch back: the loop with most dot products."""
    workload, device = Workload.parse(text), backend.device(DeviceText.parse("cpu,isa=avx512vnni,threads=1"))
    schedule = Schedule.of(**(backend.default(workload, device).as_dict() | changes))
    lines = codegen.assembly(Gemm().lower(Candidate(workload, device, schedule)), device).splitlines()
    loops = []
    starts: dict[str, int] = {}
    for number, line in enumerate(lines):
        if line.startswith(".LBB"):
            starts[line.split(":")[0]] = number
        jump = re.match(r"\tj\w+\s+(\.LBB\w+)", line)
        if jump and jump[1] in starts:
            body = lines[starts[jump[1]] + 1 : number + 1]
            if not any(other.startswith(".LBB") for other in body):
                loops.append([b.strip() for b in body if b.startswith("\t") and not b.startswith("\t.")])
    return max(loops, key=lambda body: sum("vpdpbusd" in b for b in body))


@pytest.mark.parametrize(("rows", "vectors"), [(8, 2), (12, 2), (6, 4)])
def test_the_inner_loop_is_dot_products_from_registers(backend: CpuBackend, rows: int, vectors: int) -> None:
    text = "matmul m=96 n=256 k=512 act=f32 weight=u4:128"
    body = inner_loop(backend, text, rows=rows, vectors=vectors, tile=64, panel=64)
    dots = sum(b.startswith("vpdpbusd") for b in body)
    assert dots == rows * vectors * 2
    assert not any(_STACK_VECTOR.search(b) for b in body)
    # one load for each vector of codes and each activation, besides the dot products only the loop itself
    assert len(body) <= dots + 2 * (rows + vectors) + 6


def test_one_block_of_rows_decodes_in_registers(build: Any) -> None:
    staged = dict(build("matmul m=24 n=64 k=128 act=f32 weight=u2:128", "cpu,isa=avx512vnni", rows=8).artifact.facts)
    direct = dict(build("matmul m=8 n=64 k=128 act=f32 weight=u2:128", "cpu,isa=avx512vnni", rows=8).artifact.facts)
    assert staged["vpdpbusd"] == direct["vpdpbusd"] == 8 * 2 * 4
    assert direct["instructions"] < staged["instructions"]


@pytest.mark.parametrize(
    ("m", "weight", "tile"),
    [
        (12, "u4:32", (12, 2)),
        (16, "u4:128", (16, 1)),  # by two vectors, 32 sums would leave no register for codes
        (16, "u4:32", (8, 2)),
        (64, "u4:128", (8, 2)),
    ],
)
def test_few_rows_are_one_register_tile_by_default(
    backend: CpuBackend, m: int, weight: str, tile: tuple[int, int]
) -> None:
    device = backend.device(DeviceText.parse("cpu,isa=avx512vnni"))
    schedule = backend.default(Workload.parse(f"matmul m={m} n=64 k=256 act=f32 weight={weight}"), device)
    assert (schedule["rows"], schedule["vectors"]) == tile


@pytest.mark.parametrize(("m", "n", "panel"), [(8, 4096, 32), (8, 11008, 64), (32, 11008, 32)])
def test_large_weights_that_are_read_once_are_read_in_runs_of_a_tile_by_default(m: int, n: int, panel: int) -> None:
    """8.7 and 23 MB, where a third of the last cache is 11 MB; 32 rows read the codes they decoded from L1."""
    facts = {"arch": "x86_64", "isa": " ".join(sorted(cpu.LEVELS["avx512vnni"])), "L3_bytes": 32 << 20}
    workload = Workload.parse(f"matmul m={m} n={n} k=4096 act=f32 weight=u4:128")
    schedule = spaces.default(workload, Device("cpu", "", facts, {"threads": 1}))
    assert (schedule["tile"], schedule["panel"]) == (64, panel)
