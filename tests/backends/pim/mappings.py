"""Random workloads and mappings, checked: computed like the reference, and no constraint violated."""

from __future__ import annotations

import sys
from collections import Counter

import numpy as np

from fettle.backends.api import Candidate, Device, MeasurePolicy, Schedule
from fettle.backends.host.executor import make_executor
from fettle.backends.pim.backend import PimBackend
from fettle.backends.pim.device import Hardware
from fettle.backends.pim.dram import DramMachine
from fettle.backends.pim.report import time_program
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space
from fettle.graph.workload import Workload
from tests.backends.pim.checker import misplaced, violations

PRESETS = ("gddr6-aim", "hbm-pim", "hbm3-attacc", "neupims", "upmem")
POLICY = MeasurePolicy(samples=1)


def random_case(rng: np.random.Generator, *, scaled: bool = False) -> tuple[Device, Workload]:
    """A small workload that a small device of some preset supports, or of the one that scales."""
    backend = PimBackend()
    while True:
        preset = str(rng.choice(PRESETS))
        channels = int(rng.choice([1, 2, 3, 4, 8]))
        refresh = str(rng.choice(["on", "off"]))
        text = f"channels={channels},refresh={refresh}"
        _, device = resolve_device(f"pim:gddr6-aim,{text},{_sizes(rng)}" if scaled else f"pim:{preset},{text}")
        workload = Workload.parse(_workload(rng))
        if backend.supports(workload, device):
            return device, workload


def _sizes(rng: np.random.Generator) -> str:
    banks, lanes = (1 << int(rng.integers(*exponents)) for exponents in ((2, 6), (3, 7)))
    buffer = 16 * lanes << int(rng.integers(0, 4))
    return f"banks={banks},lanes={lanes},buffer={max(buffer, 256)}"


def _workload(rng: np.random.Generator) -> str:
    kind = str(rng.choice(["matmul", "matmul", "quantised", "batched", "elementwise", "attention", "softmax"]))
    act = str(rng.choice(["bf16", "f16"]))
    m, n, k = (int(rng.integers(1, limit)) for limit in (4, 160, 400))
    if kind == "matmul":
        return f"matmul m={m} n={n} k={k} act={act} weight={act}"
    if kind == "quantised":
        return f"matmul m={m} n={n} k={k + 128} act={act} weight={rng.choice(['u4:128', 'u4:32:zp', 'u8:row'])}"
    if kind == "batched":
        return f"matmul batch={int(rng.integers(2, 6))} m={m} n={n} k={k} act={act} rhs={act}"
    if kind == "elementwise":
        return f"elementwise shape={n}x{k} act={act} expr={rng.choice(['x0*x1', 'x0+x1', 'relu(x0)', 'silu(x0)*x1'])}"
    if kind == "softmax":
        return f"softmax rows={m} cols={k} act={act}"
    heads = int(rng.choice([1, 2, 3]))
    more = heads * int(rng.choice([1, 2]))
    return f"attention batch={m} heads={more} kv_heads={heads} q=1 kv={k} dim=64 act={act} kvcache={act}"


def check(rng: np.random.Generator, device: Device, workload: Workload, mappings: int) -> tuple[int, list[str]]:
    """How many random mappings of a workload were checked (a space may have fewer), and what is wrong with them."""
    backend = PimBackend()
    points = enumerate_space(backend.space(workload, device))
    chosen = points.sample(rng, mappings)
    wrong = []
    with make_executor(backend, device).open(workload, POLICY, int(rng.integers(1 << 30))) as session:
        for i in chosen:
            wrong += check_one(session, device, workload, points[i])
    return len(chosen), wrong


def check_one(session: object, device: Device, workload: Workload, schedule: Schedule) -> list[str]:
    candidate = Candidate(workload, device, schedule)
    (built,) = session.build([candidate])  # type: ignore[attr-defined]
    trial = session.evaluate(candidate, built.artifact)  # type: ignore[attr-defined]
    where = f"{device} {workload} {schedule}: "
    wrong = [] if trial.verified else [trial.measurement.message + " " + where]
    one = DramMachine().kernel(workload, device, schedule).mapped
    hardware = Hardware.of(device)
    timing = time_program(one.program, hardware, one.slack, record=True)
    assert timing.issued is not None
    if timing.cycles != dict(trial.measurement.counters).get("cycles", timing.cycles):
        wrong.append(where + "recording changes the cycles")
    wrong += [v + " " + where for v in violations(timing.issued, hardware, one.slack)[:3]]
    if not hardware.organisation.reorders:
        return wrong
    return wrong + [v + " " + where for v in misplaced(timing.issued, hardware, one.program)[:3]]


def main(wanted: int, seed: int, *, scaled: bool = False, each: int = 10) -> None:
    """Check that many mappings, ``each`` of a workload; print what is wrong, and what was covered."""
    rng = np.random.default_rng(seed)
    covered: Counter[tuple[str, str]] = Counter()
    failures = 0
    while covered.total() < wanted:
        device, workload = random_case(rng, scaled=scaled)
        made, wrong = check(rng, device, workload, each)
        covered[device.preset, workload.operator] += made
        failures += len(wrong)
        for message in wrong:
            print(message)
    for (preset, operator), made in sorted(covered.items()):
        print(f"{preset} {operator}: {made}")
    print(f"{covered.total()} mappings, {failures} failures")


if __name__ == "__main__":  # python -m tests.backends.pim.mappings 10000 SEED [scaled]
    main(int(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0, scaled=sys.argv[3:] == ["scaled"])
