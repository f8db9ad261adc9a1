"""Commands of the textbook mappings against the tilings of the open kernels, away from the shapes with known totals.

Each tiling is written down here a second time: as a trace in the AiM simulator's own form, and as counts of
PIMSimulator's kernels (a tile is 8 bursts of input times 8 outputs of all units).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import pytest

from fettle.backends.registry import resolve_device
from fettle.graph.workload import Workload

LANES, BANKS, BUFFER = 16, 16, 64
"""Of a GDDR6-AiM channel: weights in a column, banks, columns of the global buffer and of a row."""


def aim_gemv(m: int, n: int, k: int, channels: int, dataflow: str) -> Iterator[str]:
    """The instructions a person would write: output group o of chunk c lies in a row of its own."""
    groups, chunks = ceil(n / (BANKS * channels)), ceil(k / (LANES * BUFFER))
    columns = [ceil(min(LANES * BUFFER, k - c * LANES * BUFFER) / LANES) for c in range(chunks)]

    def mask(o: int) -> str:
        return hex((1 << min(channels, ceil((n - o * BANKS * channels) / BANKS))) - 1)

    everyone = hex((1 << channels) - 1)
    yield "W CFR 0 1"
    for _ in range(m):
        if dataflow == "input_stationary":
            for c in range(chunks):
                yield f"AiM WR_GB {columns[c]} 0 {everyone}"
                for o in range(groups):
                    yield f"AiM WR_BIAS 0 {mask(o)}"
                    yield f"AiM MAC_ABK {columns[c]} {mask(o)} {o * chunks + c}"
                    yield f"AiM RD_MAC 0 {mask(o)}"
        else:
            for o in range(groups):
                yield f"AiM WR_BIAS 0 {mask(o)}"
                for c in range(chunks):
                    yield f"AiM WR_GB {columns[c]} 0 {everyone}"
                    yield f"AiM MAC_ABK {columns[c]} {mask(o)} {o * chunks + c}"
                yield f"AiM RD_MAC 0 {mask(o)}"
    yield "AiM EOC"


@pytest.mark.parametrize("dataflow", ["input_stationary", "output_stationary"])
@pytest.mark.parametrize(
    ("m", "n", "k", "channels"),
    [
        (1, 4096, 4096, 32),
        (1, 4096, 4096, 1),
        (1, 4096, 4096, 8),
        (1, 1000, 1000, 16),  # neither whole banks nor whole columns
        (1, 100, 5000, 8),
        (1, 17, 16, 1),
        (4, 2048, 3072, 16),
        (3, 777, 1300, 8),
    ],
)
def test_aim_mappings_are_the_instructions_one_would_write(
    m: int, n: int, k: int, channels: int, dataflow: str
) -> None:
    backend, device = resolve_device(f"pim:gddr6-aim,channels={channels}")
    expected = backend.simulate_trace(device, list(aim_gemv(m, n, k, channels, dataflow)))
    workload = Workload.parse(f"matmul m={m} n={n} k={k} act=bf16 weight=bf16")
    mapped = backend.simulate(workload, device, {"dataflow": dataflow})
    assert (mapped.cycles, mapped.commands) == (expected.cycles, expected.commands)


@pytest.mark.parametrize(("m", "n", "k"), [(1, 1024, 4096), (1, 4096, 1024), (1, 8192, 8192), (8, 4096, 4096)])
def test_hbm_pim_gemv_has_the_transactions_of_the_open_kernel(m: int, n: int, k: int) -> None:
    backend, device = resolve_device("pim:hbm-pim")
    found = dict(backend.simulate(Workload.parse(f"matmul m={m} n={n} k={k} act=f16 weight=f16"), device, {}).commands)
    channels, units, registers, bursts = 64, 8, 8, k // LANES
    outputs, inputs = ceil(n / (channels * units) / registers), ceil(bursts / registers)
    passes = outputs * m
    assert found["MACH"] == channels * passes * inputs * registers * registers
    assert found["WRH"] == channels * passes * registers  # accumulators into the odd bank
    # inputs of each tile, the mode before and after each pass, one burst of microcode, and two writes to leave
    assert found["WRREG"] == channels * (passes * (inputs * registers + 2) + 1 + 2)


@pytest.mark.parametrize(
    ("expression", "size", "arity"), [("x0+x1", 1 << 20, 2), ("x0*x1", 1 << 21, 2), ("relu(x0)", 1 << 22, 1)]
)
def test_hbm_pim_elementwise_has_the_transactions_of_the_open_kernel(expression: str, size: int, arity: int) -> None:
    backend, device = resolve_device("pim:hbm-pim")
    workload = Workload.parse(f"elementwise shape={size} act=f16 expr={expression}")
    units = backend.simulate(workload, device, {})
    tiles = size // LANES // (64 * BANKS * 8)
    assert dict(units.commands)["ALUH"] == 64 * tiles * 2 * arity * 8
    assert dict(units.commands)["WRH"] == 64 * tiles * (2 * 8 + 1)  # and one more that flushes the last result
    assert 2 * units.cycles < backend.simulate(workload, device, {"place": "host"}).cycles  # what its benchmark expects
