"""Products on register files: what the channels share out, and what attention makes of them."""

from __future__ import annotations

from collections import Counter
from math import ceil

import numpy as np
import pytest

from fettle.backends.api import Schedule, Simulation, Value
from fettle.backends.pim.dram import DramMachine
from fettle.backends.pim.program import HOST, SYNC
from fettle.backends.registry import resolve_device
from fettle.backends.spaces import enumerate_space
from fettle.graph.errors import Internal
from fettle.graph.workload import Workload

LANES, INPUTS, OUTPUTS, UNITS = 16, 8, 8, 8
"""Of HBM-PIM: lanes of a unit, its input and accumulator registers, units of a channel."""


def simulate(workload: str, device: str = "pim:hbm-pim", **schedule: Value) -> Simulation:
    backend, resolved = resolve_device(device)
    return backend.simulate(Workload.parse(workload), resolved, schedule)


def columns(outputs: int, k: int, channels: int) -> int:
    """Columns that each unit multiplies for a row of x of a product shared by so many channels."""
    return ceil(outputs / (OUTPUTS * UNITS * channels)) * ceil(k / (INPUTS * LANES)) * INPUTS * OUTPUTS


@pytest.mark.parametrize(("heads", "kv_heads", "kv"), [(8, 8, 512), (8, 2, 700), (32, 32, 300)])
def test_decode_attention_reads_keys_and_values_once_for_each_query_head(heads: int, kv_heads: int, kv: int) -> None:
    """Accumulators belong to one row of x: heads that share a cache read it after each other."""
    channels, dim = 8, 128
    share = max(channels // kv_heads, 1)
    text = f"attention heads={heads} kv_heads={kv_heads} q=1 kv={kv} dim={dim} act=f16"
    found = dict(simulate(text, f"pim:hbm-pim,channels={channels}").commands)
    rounds, together = ceil(kv_heads * share / channels), heads // kv_heads
    each = columns(kv, dim, share) + columns(dim, kv, share)
    assert found["MACH"] == channels * rounds * together * each
    # The host reads 8 accumulators of every unit, in two columns each, and parks rows of all banks twice.
    tiles = rounds * together * ceil(kv / (OUTPUTS * UNITS * share))
    assert found["RD"] == channels * (tiles * UNITS * OUTPUTS * 2 + 2 * (16 + 2))


def test_the_host_reads_the_scores_where_the_units_wrote_them() -> None:
    """Between the two times that the units work: odd banks, the rows and columns of every result write."""
    backend, device = resolve_device("pim:hbm-pim,channels=2")
    workload = Workload.parse("attention batch=3 heads=2 kv_heads=1 q=1 kv=150 dim=64 act=f16")
    program = DramMachine().kernel(workload, device, backend.default(workload, device)).mapped.program
    names = [program.names[i] for i in program.operations]
    first, second = (at for at, name in enumerate(names) if name == SYNC)
    assert names[second + 1] == HOST
    written = Counter(
        (int(program.rows[at]), column)
        for at in range(first)
        if names[at] == "WRH"
        for column in range(program.columns[at], program.columns[at] + program.counts[at])
    )
    read = Counter(
        (int(program.rows[at]), int(program.columns[at]), int(program.banks[at])) for at in range(first + 1, second)
    )
    assert set(names[first + 1 : second]) == {"RD"}
    assert read == Counter((*place, bank) for place in written.elements() for bank in range(1, 16, 2))
    # The values lie behind: what is left there is not written over.
    used = {int(program.rows[at]) for at in range(second, len(names)) if names[at] in ("MACH", "WRH")}
    assert min(used) > max(row for row, _ in written)


@pytest.mark.parametrize("part", [0, -1], ids=["scores", "values"])
def test_a_wrong_address_gives_a_wrong_result(part: int) -> None:
    """Scores and values come from their commands: weights of two tiles are taken for each other's."""
    backend, device = resolve_device("pim:hbm-pim,channels=1")
    workload = Workload.parse("attention heads=1 q=1 kv=512 dim=128 act=f16")
    mapped = DramMachine().kernel(workload, device, backend.default(workload, device)).mapped
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal(tensor.shape).astype(np.float16) for tensor in workload.operands]
    right = mapped.compute(inputs, ())
    program = mapped.program
    macs = np.flatnonzero(program.operations == program.names.index("MACH")).reshape(-1, 8)  # of a tile each
    one, two = (macs[0], macs[1]) if part == 0 else (macs[-1], macs[-2])
    places = program.banks, program.rows, program.columns
    for field in places:
        field[one], field[two] = field[two].copy(), field[one].copy()
    assert not np.allclose(mapped.compute(inputs, ()), right, atol=0.01)
    for field in places:
        field[one], field[two] = field[two].copy(), field[one].copy()
    assert np.array_equal(mapped.compute(inputs, ()), right)
    program.rows[one[0]] += 1
    with pytest.raises(Internal, match="tile of weights"):
        mapped.compute(inputs, ())
    program.rows[one[0]] -= 1


def test_slices_of_k_use_channels_that_outputs_leave_idle() -> None:
    """1024 outputs fill 16 of 64 channels: 4 slices of K, a quarter of the columns."""
    text = "matmul m=1 n=1024 k=4096 act=f16 weight=f16"
    whole, sliced = simulate(text), simulate(text, split_k=4)
    assert dict(whole.commands)["MACH"] == 4 * dict(sliced.commands)["MACH"] == 64 * columns(1024, 4096, 64)
    assert sliced.cycles < whole.cycles / 3


def test_problems_of_a_batch_are_on_channels_of_their_own() -> None:
    text = "matmul batch=64 m=1 n=64 k=1024 act=f16 rhs=f16"
    found = simulate(text)
    assert found.schedule["problem_channels"] == 1
    assert dict(found.commands)["MACH"] == 64 * columns(64, 1024, 1)


def test_slices_are_on_different_channels_and_channels_have_outputs() -> None:
    backend, device = resolve_device("pim:hbm-pim,channels=8")
    workload = Workload.parse("matmul batch=2 m=1 n=64 k=4096 act=f16 rhs=f16")
    enumerated = enumerate_space(backend.space(workload, device))
    values = backend.default(workload, device).as_dict()

    def valid(**more: Value) -> bool:
        return Schedule.of(**{**values, **more}) in enumerated

    assert valid(problem_channels=4, split_k=4)
    assert not valid(problem_channels=4, split_k=8)  # slices beside each other
    assert not valid(problem_channels=8, split_k=1)  # seven of them would have no output
