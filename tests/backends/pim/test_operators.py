"""What operators cost on units and through the host, and what figures reports give."""

from __future__ import annotations

import pytest

from fettle.backends.api import Simulation, Value
from fettle.backends.registry import resolve_device
from fettle.graph.workload import Workload


def simulate(workload: str, device: str, **schedule: Value) -> Simulation:
    backend, resolved = resolve_device(device)
    return backend.simulate(Workload.parse(workload), resolved, schedule)


def test_a_dense_product_reads_every_weight_once() -> None:
    for device in ("pim:gddr6-aim", "pim:hbm3-attacc", "pim:neupims"):
        assert simulate("matmul m=1 n=4096 k=4096 act=bf16 weight=bf16", device).dram_bytes == 2 * 4096 * 4096


@pytest.mark.parametrize(("weight", "columns"), [("bf16", 64), ("u8:128", 33), ("u4:128", 17)])
def test_quantised_weights_take_fewer_columns_and_their_scales_too(weight: str, columns: int) -> None:
    """1024 weights a segment: 2, 1 or half a byte each, and 8 scales of 2 bytes in a column of their own."""
    result = simulate(f"matmul m=1 n=512 k=1024 act=bf16 weight={weight}", "pim:gddr6-aim")
    assert dict(result.commands)["MACAB"] == 32 * columns


def test_packing_segments_saves_opening_rows() -> None:
    text = "matmul m=1 n=4096 k=4096 act=bf16 weight=u4:128"
    spread, packed = (simulate(text, "pim:gddr6-aim", placement=place) for place in ("row", "by_input"))
    assert dict(packed.commands)["ACTAB"] < 0.5 * dict(spread.commands)["ACTAB"]
    assert packed.cycles < spread.cycles


def test_rows_of_x_that_share_an_open_row_are_cheaper() -> None:
    text = "matmul m=2 n=2048 k=512 act=bf16 weight=bf16"
    alone = simulate(text, "pim:gddr6-aim", chunk=32, interleave=1)
    together = simulate(text, "pim:gddr6-aim", chunk=32, interleave=2)
    assert dict(alone.commands)["ACTAB"] == 2 * dict(together.commands)["ACTAB"]
    assert together.cycles < alone.cycles


@pytest.mark.parametrize("preset", ["gddr6-aim", "hbm-pim", "hbm3-attacc", "neupims", "upmem", "sram-lut"])
@pytest.mark.parametrize(
    "workload",
    [
        "matmul m=1 n=4096 k=4096 act=bf16 weight=bf16",
        "matmul m=8 n=2048 k=2048 act=bf16 weight=u4:128",
        "elementwise shape=1048576 act=bf16 expr=x0*x1",
        "softmax rows=64 cols=4096 act=bf16",
        "attention batch=1 heads=8 kv_heads=8 q=1 kv=2048 dim=128 act=bf16 kvcache=bf16",
    ],
)
def test_no_textbook_mapping_beats_the_bound(workload: str, preset: str) -> None:
    backend, device = resolve_device(f"pim:{preset}")
    parsed = Workload.parse(workload)
    if not backend.supports(parsed, device):
        pytest.skip("not supported")
    bound = backend.bound(parsed, device, backend.profile(device))
    assert backend.simulate(parsed, device, {}).seconds >= bound.seconds > 0


def test_more_channels_are_faster() -> None:
    text = "matmul m=1 n=4096 k=1024 act=bf16 weight=bf16"
    cycles = [simulate(text, f"pim:gddr6-aim,channels={n}").cycles for n in (1, 4, 16)]
    assert cycles[0] > 3.5 * cycles[1] > 12 * cycles[2]


def test_units_multiply_elementwise_faster_than_the_host() -> None:
    text = "elementwise shape=1048576 act=bf16 expr=x0*x1"
    for device in ("pim:gddr6-aim", "pim:hbm-pim"):
        assert simulate(text, device).cycles < 0.5 * simulate(text, device, place="host").cycles


def test_postponing_refreshes_does_not_lose_any() -> None:
    text = "matmul m=1 n=16384 k=1024 act=bf16 weight=u4:128"
    for slack in (0, 8):
        result = simulate(text, "pim:gddr6-aim,refresh=on", placement="by_input", refresh_slack=slack)
        due = result.cycles // 3333
        assert due - 8 <= dict(result.commands)["REF"] / 32 <= due


def test_decode_attention_reads_the_cache_once() -> None:
    text = "attention batch=1 heads=8 kv_heads=8 q=1 kv=1024 dim=128 act=bf16 kvcache=bf16"
    result = simulate(text, "pim:gddr6-aim")
    assert result.dram_bytes >= 2 * 2 * 8 * 1024 * 128
    host = simulate("softmax rows=8 cols=1024 act=bf16", "pim:hbm3-attacc", place="host")
    unit = simulate("softmax rows=8 cols=1024 act=bf16", "pim:hbm3-attacc", place="unit")
    assert unit.cycles != host.cycles


def test_energy_is_the_sum_of_the_constants() -> None:
    result = simulate("matmul m=1 n=512 k=1024 act=bf16 weight=bf16", "pim:gddr6-aim")
    constants = {"ACTAB": 16 * 909, "MACAB": 16 * 411, "WRGB": 1234, "WRBIAS": 1234, "RDMAC": 1234}
    issued = dict(result.commands)
    expected = sum(picojoules * int(issued[name]) for name, picojoules in constants.items())
    assert result.energy == pytest.approx(1e-12 * expected)
