"""Totals of the open simulators: AiM on Ramulator 2 (exactly, refresh off), PIMSimulator on DRAMSim2 (within 15 %)."""

from __future__ import annotations

import pytest

from fettle.backends.pim.backend import PimBackend
from fettle.backends.registry import resolve_device
from fettle.graph.workload import Workload

ALL = "0xffffffff"
GEMV = Workload.parse("matmul m=1 n=4096 k=4096 act=bf16 weight=bf16")


def aim(*lines: str) -> int:
    """Cycles of a trace in the AiM simulator's own form."""
    _, device = resolve_device("pim:gddr6-aim")
    return PimBackend().simulate_trace(device, [*lines, "AiM EOC"]).cycles


def gemv(device: str, **schedule: str) -> int:
    backend, resolved = resolve_device(device)
    return backend.simulate(GEMV, resolved, schedule).cycles


@pytest.mark.parametrize(
    ("columns", "rows", "cycles"), [(1, 1, 60), (1, 10, 960), (64, 1, 186), (64, 10, 2220)], ids=str
)
def test_all_bank_mac_over_columns_and_rows(columns: int, rows: int, cycles: int) -> None:
    """The traces begin by writing the register that says where units take their inputs from: one cycle."""
    assert aim("W CFR 0 1", *(f"AiM MAC_ABK {columns} {ALL} {row}" for row in range(rows))) == cycles


@pytest.mark.parametrize(("columns", "rows"), [(1, 2), (7, 5), (32, 3), (64, 2)], ids=str)
def test_other_columns_and_rows_are_sums_of_the_timing_table(columns: int, rows: int) -> None:
    """RCDMAC, 2 cycles a column; between rows RTP and RP; 4 cycles until the first is sent and the end seen."""
    expected = 4 + rows * (56 + 2 * (columns - 1)) + (rows - 1) * (12 + 32)
    assert aim("W CFR 0 1", *(f"AiM MAC_ABK {columns} {ALL} {row}" for row in range(rows))) == expected


def test_a_refresh_closes_the_row_waits_and_opens_it_again() -> None:
    lines = [f"AiM MAC_ABK 64 {ALL} 0"] * 30  # longer than one interval of 3333 cycles, shorter than two
    backend, device = resolve_device("pim:gddr6-aim,refresh=on")
    instead_of_a_column_interval = 12 + 32 + 210 + 56 - 2  # RTP, RP, RFC, RCDMAC
    assert backend.simulate_trace(device, lines).cycles == aim(*lines) + instead_of_a_column_interval


def test_a_refresh_among_register_commands_changes_the_mode_and_back() -> None:
    backend, device = resolve_device("pim:gddr6-aim,refresh=on")
    lines = [f"AiM WR_GB 64 0 {ALL}"] * 60
    two_refreshes = 2 * (32 + 1 + 32)  # no row is open
    assert backend.simulate_trace(device, lines).cycles == aim(*lines) + two_refreshes == 7845


def test_the_same_open_row_twenty_times() -> None:
    assert aim(*[f"AiM MAC_ABK 64 {ALL} 0"] * 20) == 2617


def test_register_commands_wait_for_the_mode_to_change() -> None:
    assert aim(f"AiM WR_GB 1 0 {ALL}") == 37
    assert aim(f"AiM WR_GB 64 0 {ALL}") == 163
    assert aim(f"AiM WR_BIAS 0 {ALL}") == 37
    assert aim(f"AiM RD_MAC 0 {ALL}") == 37


def test_bias_mac_and_read() -> None:
    assert aim(f"AiM WR_BIAS 0 {ALL}", f"AiM MAC_ABK 64 {ALL} 0", f"AiM RD_MAC 0 {ALL}") == 286


def test_aim_gemv_keeping_inputs_or_outputs() -> None:
    assert gemv("pim:gddr6-aim", dataflow="input_stationary") == pytest.approx(9665, rel=0.05)
    assert gemv("pim:gddr6-aim", dataflow="output_stationary") == pytest.approx(13057, rel=0.05)
    assert gemv("pim:gddr6-aim") == gemv("pim:gddr6-aim", dataflow="input_stationary")


@pytest.mark.parametrize("channels", [1, 2, 8, 32])
@pytest.mark.parametrize(("n", "k"), [(4096, 4096), (1000, 1500), (17, 40)])
def test_aim_gemv_is_made_of_feeds_and_of_bias_mac_read(n: int, k: int, channels: int) -> None:
    """A chunk of 16 w inputs is fed in 2 w cycles; bias, MAC of 64 columns and read take 286 (above), of w columns two
    less for each that is missing, for every 16 outputs of a channel."""
    segments = -(-n // (16 * channels))
    chunks = [-(-min(1024, k - start) // 16) for start in range(0, k, 1024)]
    expected = 1 + sum(2 * width + segments * (286 - 2 * (64 - width)) for width in chunks)
    backend, device = resolve_device(f"pim:gddr6-aim,channels={channels}")
    product = Workload.parse(f"matmul m=1 n={n} k={k} act=bf16 weight=bf16")
    assert backend.simulate(product, device, {"dataflow": "input_stationary"}).cycles == expected


def test_rows_of_x_that_share_an_open_row_save_its_opening() -> None:
    """4 chunks of 16 columns for each of 4 rows of x: one RP and RCDMAC for four rows, 8 times a chunk."""
    backend, device = resolve_device("pim:gddr6-aim")
    four = Workload.parse("matmul m=4 n=4096 k=1024 act=bf16 weight=bf16")
    alone = 286 - 2 * (64 - 16)
    together = 4 * alone - 3 * (32 + 56)
    cycles = backend.simulate(four, device, {"chunk": 16, "interleave": 4}).cycles
    assert cycles == 1 + 4 * (4 * 2 * 16 + 8 * together)


@pytest.mark.parametrize("refresh", ["off", "on"])
def test_hbm_pim_gemv_with_and_without_units(refresh: str) -> None:
    """The reference refreshes; ours does where it is told to."""
    device = f"pim:hbm-pim,refresh={refresh}"
    assert gemv(device) == pytest.approx(13166, rel=0.15)
    assert gemv(device, dataflow="host") == pytest.approx(36082, rel=0.15)


def test_hbm_pim_gemv_with_refresh_is_within_one_percent() -> None:
    assert gemv("pim:hbm-pim,refresh=on") == pytest.approx(13166, rel=0.01)


HBM_PIM_UNITS = [
    ("matmul m=1 n=1024 k=1024", 3271, 3608),
    ("matmul m=1 n=100 k=1000", 3271, 3608),
    ("matmul m=3 n=4096 k=384", 3721, 4085),
    ("matmul m=1 n=4096 k=4096", 12019, 13112),
    ("matmul m=1 n=5000 k=8192", 47089, 51851),
    ("matmul m=4 n=8192 k=2048", 47557, 52267),
    ("elementwise shape=131072 expr=x0*x1", 681, 681),
    ("elementwise shape=1048576 expr=x0+x1", 2963, 3309),
    ("elementwise shape=262144 expr=relu(x0)", 771, 771),
    ("elementwise shape=4194304 expr=relu(x0)", 7011, 7739),
]
HBM_PIM_HOST = [
    ("matmul m=1 n=64 k=64", 143, 143),
    ("matmul m=1 n=256 k=256", 255, 255),
    ("matmul m=1 n=512 k=512", 639, 639),
    ("matmul m=1 n=1024 k=1024", 2175, 2555),
    ("matmul m=1 n=4096 k=4096", 32960, 36179),
    ("matmul m=1 n=8192 k=8192", 131309, 143393),
    ("elementwise shape=4096 expr=relu(x0)", 97, 97),
    ("elementwise shape=131072 expr=x0+x1", 836, 836),
    ("elementwise shape=1048576 expr=x0+x1", 6233, 6651),
    ("elementwise shape=4194304 expr=relu(x0)", 16599, 17504),
]
"""Cycles without and with refresh by the rules of PIMSimulator's controller and kernels (64 channels, two ranks),
carried out cycle by cycle with its out-of-order queue. At 4096 x 4096 they give 13112 and 36179; it reports 13166 and
36082. It now and then misses a refresh, because it opens rows while one is due; ours does not."""


def _hbm_pim(text: str, refresh: str, **schedule: str) -> int:
    workload = Workload.parse(f"{text} act=f16" + (" weight=f16" if text.startswith("matmul") else ""))
    backend, device = resolve_device(f"pim:hbm-pim,refresh={refresh}")
    return backend.simulate(workload, device, schedule).cycles


@pytest.mark.parametrize(("text", "without", "refreshed"), HBM_PIM_UNITS, ids=str)
def test_hbm_pim_kernels_take_the_cycles_of_the_reference_at_other_shapes(
    text: str, without: int, refreshed: int
) -> None:
    assert _hbm_pim(text, "off") == without
    assert _hbm_pim(text, "on") == pytest.approx(refreshed, rel=0.02)


@pytest.mark.parametrize(("text", "without", "refreshed"), HBM_PIM_HOST, ids=str)
def test_hbm_pim_read_by_the_host_is_near_the_reference_at_other_shapes(
    text: str, without: int, refreshed: int
) -> None:
    by_host = {"dataflow": "host"} if text.startswith("matmul") else {"place": "host"}
    assert _hbm_pim(text, "off", **by_host) == pytest.approx(without, abs=2)
    assert _hbm_pim(text, "on", **by_host) == pytest.approx(refreshed, rel=0.07)


BANKS_IN_TURNS = [f"{row} {bank}" for row in range(4) for _ in range(16) for bank in range(16)]
COLUMNS_IN_TURNS = [f"{row} {bank}" for row in range(4) for bank in range(16) for _ in range(16)]


def single_bank(instruction: str, places: list[str]) -> list[str]:
    return [f"AiM {instruction} 0 0xff {bank} {row}" for row, bank in map(str.split, places)]


@pytest.mark.parametrize(
    ("instruction", "places", "cycles"),
    [
        ("RD_SBK", BANKS_IN_TURNS, 2974),
        ("WR_SBK", BANKS_IN_TURNS, 3201),
        ("RD_SBK", COLUMNS_IN_TURNS, 2672),
        ("WR_SBK", COLUMNS_IN_TURNS, 3350),
    ],
    ids=["reads, banks in turns", "writes, banks in turns", "reads, columns in turns", "writes, columns in turns"],
)
def test_single_bank_accesses_are_reordered_like_the_aim_simulators(
    instruction: str, places: list[str], cycles: int
) -> None:
    """Totals of its controller's rules, carried out cycle by cycle."""
    assert aim(*single_bank(instruction, places)) == cycles


@pytest.mark.parametrize(
    ("lines", "cycles"),
    [
        (["RD_SBK 8 3", "WR_SBK 12 1", "RD_MAC"], 132),  # an opened row's read comes back before the result
        (["RD_SBK 9 2", "RD_SBK 9 3", "CFR", "RD_SBK 5 3"], 101),  # the third opens its row before the second
        (["WR_SBK 0 0", "WR_SBK 0 1", "RD_SBK 0 0"], 104),  # the read is answered from the writes that wait
        (["RD_SBK 0 0"], 3),  # its row is opened: the simulator's end of compute asks for no more
    ],
    ids=str,
)
def test_single_bank_accesses_among_others(lines: list[str], cycles: int) -> None:
    written = []
    for name, *place in map(str.split, lines):
        written.append("W CFR 0 1" if name == "CFR" else " ".join(["AiM", name, "0", "0x1", *place]))
    assert aim(*written) == cycles


def test_a_trace_without_an_end_of_compute_waits_for_opened_rows() -> None:
    backend, device = resolve_device("pim:gddr6-aim")
    opened_read_and_seen = 1 + 36 + 50 + 2 + 1  # RCDRD, CL, BL
    assert backend.simulate_trace(device, ["AiM RD_SBK 0 0x1 0 0"]).cycles == opened_read_and_seen


@pytest.mark.parametrize("preset", ["gddr6-aim", "hbm-pim"])
def test_refreshes_go_on_while_no_request_waits(preset: str) -> None:
    backend, device = resolve_device(f"pim:{preset},refresh=on,channels=1")
    lines = ["RD bank=0 row=0", "HOST count=40000", "RD bank=0 row=1"]
    result = backend.simulate_trace(device, lines)
    assert 40000 < result.cycles < 40500
    assert dict(result.commands)["REF"] in (40000 // 3900, 40000 // 3333)
    assert (dict(result.commands)["RD"], dict(result.commands)["ACT"]) == (2, 2)


def test_channels_that_do_different_things_do_not_wait_for_each_other() -> None:
    """As long as no instruction overflows a queue: the host sends in order."""
    alone = aim("AiM MAC_ABK 32 0x1 0")
    beside = aim("AiM MAC_ABK 32 0x1 0", "AiM MAC_ABK 8 0x2 5")
    assert alone <= beside <= alone + 1


def test_refresh_costs_time_and_shows_in_the_counts() -> None:
    backend, device = resolve_device("pim:gddr6-aim,refresh=on")
    with_refresh = backend.simulate(GEMV, device, {})
    assert with_refresh.cycles > gemv("pim:gddr6-aim")
    assert dict(with_refresh.commands)["REF"] == 32 * (with_refresh.cycles // 3333)
