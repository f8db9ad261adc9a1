"""What the emitted code looks like: the promised instructions, sums that stay in registers, work as counted."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import pytest

from fettle.backends.api import Candidate, DeviceText, Schedule
from fettle.backends.cpu import CpuBackend, codegen
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.gemv import Gemv, spaces
from fettle.graph.workload import Workload
from tests.backends.cpu.assembly import calls, hot_loops, spills

U4 = "matmul m=1 n=4096 k=4096 act=f32 weight=u4:128"
U2 = "matmul m=1 n=4096 k=4096 act=f32 weight=u2:128"
U3 = "matmul m=1 n=4096 k=4096 act=f32 weight=u3:128"
TERNARY = "matmul m=1 n=4096 k=4096 act=f32 weight=tern:128"
U1 = "matmul m=1 n=4096 k=4096 act=f32 weight=bip1:128"
INSTRUCTION = {
    ("integer", "avx512"): "vpdpbusd",
    ("integer", "avxvnni"): "vpdpbusd",
    ("integer", "avx2"): "vpmaddubsw",
    ("lut", "avx512"): "vpermb",
    ("lut", "avx512bw"): "vpshufb",
    ("lut", "avx2"): "vpshufb",
}


def needs(algorithm: str, isa: str) -> None:
    if not any(needed <= cpu.features(cpu.default_device()) for needed in spaces.ISAS[algorithm, isa]):
        pytest.skip(f"this machine cannot run {algorithm} {isa}")


@cache
def assembly(text: str, where: str = "cpu", /, **changes: Any) -> str:
    workload, device = Workload.parse(text), CpuBackend().device(DeviceText.parse(where))
    fixed = {"threads": 1, "preparation": "private", "batch": 1, "blocks": 1, "unroll": 4, "tile": 64, "prefetch": 0}
    schedule = Schedule.of(split="contiguous", pages="system", **(fixed | changes))
    assert not spaces_reason(workload, schedule)
    return codegen.assembly(Gemv().lower(Candidate(workload, device, schedule)), device)


def spaces_reason(workload: Workload, schedule: Schedule) -> str | None:
    from fettle.backends.spaces import why_invalid

    return why_invalid(spaces.space(workload, cpu.default_device()), schedule)


def loaded_lines(loop: list[str]) -> int:
    """Loads of a line of weights: neither from the stack, nor operands of arithmetic."""
    return sum(bool(re.match(r"vmovdqu\w+\s+[-\w]*\((?!%rsp).*%zmm\d+$", line)) for line in loop)


@pytest.mark.parametrize(("algorithm", "isa"), sorted(INSTRUCTION))
@pytest.mark.parametrize("text", [U4, U2, U1])
@pytest.mark.parametrize("tile", [32, 256])
def test_inner_loop_has_its_instruction_and_no_spills(text: str, algorithm: str, isa: str, tile: int) -> None:
    needs(algorithm, isa)
    if tile == 32:  # one superblock a tile
        tile = {"integer": 16}.get(algorithm, 64 if isa == "avx512bw" else 32)
    loops = hot_loops(assembly(text, algorithm=algorithm, isa=isa, tile=tile, unroll=2), INSTRUCTION[algorithm, isa])
    assert loops
    for loop in loops:
        assert len(spills(loop)) * 64 <= (0 if isa == "avx512" else len(loop))  # 16 registers are few
        assert not calls(loop)


@pytest.mark.parametrize("text", [U4, U2, U1])
def test_a_dot_product_sums_four_weights_a_lane_without_shifts(text: str) -> None:
    """16 rows times 128 k need 128 / 4 = 32 instructions, 16 KiB of codes in 32-bit lanes; one shift a field."""
    needs("integer", "avx512")
    (loop, *_) = hot_loops(assembly(text, algorithm="integer", isa="avx512", tile=256, unroll=4), "vpdpbusd")
    dots = sum(line.startswith("vpdpbusd") for line in loop)
    fields = 8 // Workload.parse(text)["weight"].bits
    groups = dots / 32
    assert dots % 32 == 0
    shifts = sum(bool(re.match(r"vps(ra|rl|ll)", line)) for line in loop)
    assert shifts <= (fields - 1) * groups


@pytest.mark.parametrize("text", [U4, U2, U1])
def test_a_dot_product_reads_each_packed_byte_once(text: str) -> None:
    """A line of 64 bytes is one load and ``fields`` dot products; activations are single words, broadcast."""
    needs("integer", "avx512")
    fields = 8 // Workload.parse(text)["weight"].bits
    loops = hot_loops(assembly(text, algorithm="integer", isa="avx512", tile=256, unroll=2), "vpdpbusd")
    assert loops
    for loop in loops:
        assert loaded_lines(loop) * fields == sum(line.startswith("vpdpbusd") for line in loop)


@pytest.mark.parametrize(("text", "bits"), [(U4, 4), (U2, 2), (U1, 1)])
def test_a_look_up_serves_four_weights_a_byte(text: str, bits: int) -> None:
    """Each 64-byte line of indices takes two look-ups, two dot products and one load."""
    needs("lut", "avx512")
    for loop in hot_loops(assembly(text, algorithm="lut", isa="avx512", tile=256, unroll=4), "vpermb"):
        look_ups = sum(line.startswith("vpermb") for line in loop)
        assert sum(line.startswith("vpdpbusd") for line in loop) == look_ups
        assert look_ups % (2 * 4 * bits) == 0  # 4 steps a group of 128
        assert loaded_lines(loop) * 2 == look_ups


@pytest.mark.parametrize(("text", "unroll"), [(U1, 4), (U3, 4), (TERNARY, 2)])
@pytest.mark.parametrize("device", ["cpu", "cpu,isa=avx512vnni"])
def test_a_half_table_look_up_takes_six_instructions_a_line(text: str, unroll: int, device: str) -> None:
    """Of 64 rows: a look-up, a sign, an exclusive or, a shift and two additions; nothing is unpacked."""
    needs("mirror", "avx512")
    sign = "vgf2p8affineqb" if "gfni" in cpu.features(CpuBackend().device(DeviceText.parse(device))) else "vpshufb"
    emitted = assembly(text, device, algorithm="mirror", isa="avx512", tile=256, unroll=unroll, blocks=4)
    loops = hot_loops(emitted, sign)
    assert loops
    for loop in loops:
        assert not spills(loop)
        look_ups = sum(bool(re.match(r"vperm[it]2b", line)) for line in loop)
        assert look_ups == sum(line.startswith(sign) for line in loop)
        assert not [line for line in loop if line.startswith(("call", "vpunpck", "vpmovzx", "vextract", "vpdpbusd"))]
        doubled = 2 * 4 * 2  # of u3, between its planes
        assert sum(line.startswith("vpsrlw") for line in loop) == look_ups
        assert sum(line.startswith("vpaddw") for line in loop) <= 2 * look_ups + doubled


def test_a_group_of_half_tables_ends_without_unpacking() -> None:
    """64 rows: a shift and a subtraction part bytes, two shifts and two masks words; then a conversion, a scale and
    one multiply-add for each 16 rows, since sums begin where no offset is left to add."""
    needs("mirror", "avx512")
    emitted = assembly(TERNARY, algorithm="mirror", isa="avx512", tile=64, unroll=1)
    behind = emitted[emitted.rindex("vpermi2b" if "vpermi2b" in emitted else "vpermt2b") :]
    names = {"vpsllw": 1, "vpsubw": 1, "vpslld": 2, "vpandq": 2, "vcvtdq2ps": 4, "vmulps": 4, "vpmovzxwd": 0}
    assert {name: len(re.findall(rf"\t{name}\t[^\n]*zmm", behind)) for name in names} == names
    assert len(re.findall(r"\tvfmadd\d+ps\t[^\n]*zmm", behind)) == 4


@pytest.mark.parametrize(("isa", "instruction", "most"), [("avx512", "vpermb", 8.5), ("avx512bw", "vpshufb", 5.0)])
def test_a_look_up_of_three_digits_takes_few_instructions(isa: str, instruction: str, most: float) -> None:
    """One ``vpermb`` (or two ``vpshufb``, of which one is the sign) for 192 weights, two additions, a shift; no spills,
    and as many loads of weights as the layout has lines: five for eight look-ups."""
    needs("triplets", isa)
    emitted = assembly(TERNARY, algorithm="triplets", isa=isa, tile=256, unroll=1, blocks=2)
    for loop in hot_loops(emitted, instruction):
        look_ups = sum(line.startswith(instruction) for line in loop)
        assert len(loop) <= most * look_ups
        assert not spills(loop)
        assert not calls(loop)
        loads = sum(bool(re.match(r"vmovdq\w+\s+-?\w*\(", line)) for line in loop)
        assert loads * 8 <= 5 * look_ups


def test_float16_scales_are_converted_by_one_instruction() -> None:
    needs("integer", "avx2")
    assert "vcvtph2ps" in assembly(U4, algorithm="integer", isa="avx2")


@pytest.mark.parametrize("distance", [1024, 4096])
def test_prefetch_asks_ahead_by_the_distance(distance: int) -> None:
    """Every line loaded has one prefetch, at its own offset plus the distance."""
    needs("integer", "avx2")
    text = assembly(U4, algorithm="integer", isa="avx2", tile=256, unroll=4, prefetch=distance)
    assert len(re.findall(r"\sprefetcht0\s", text)) >= 4
    assert "prefetch" not in assembly(U4, algorithm="integer", isa="avx2", tile=256, unroll=4)


def test_narrow_devices_get_no_wide_registers() -> None:
    backend = CpuBackend()
    workload, narrow = Workload.parse(U4), backend.device(DeviceText.parse("cpu,isa=avx2"))
    artifact = backend.build(Candidate(workload, narrow, backend.default(workload, narrow)))
    assert dict(artifact.facts)["vpdpbusd"] == 0
    assert dict(artifact.facts)["vpmaddubsw"] > 0
    assert "avx512f" not in artifact.isa


def test_lowered_names_the_features_it_uses() -> None:
    needs("lut", "avx512")
    workload, device = Workload.parse(U4), cpu.default_device()
    schedule = Schedule.of(**(spaces.default(workload, device).as_dict() | {"algorithm": "lut", "isa": "avx512"}))
    lowered = Gemv().lower(Candidate(workload, device, schedule))
    assert {"avx512vbmi", "avx512vnni"} <= set(lowered.isa)
    assert lowered.weight_layout == "gemv-planes-r16-k32-g128-t64-b4:3"


def test_rows_of_padding_cost_no_code_where_vectors_are_whole() -> None:
    """4096 rows are 6.4 tiles of 640: vectors past the end are left out by one branch, not element by element."""
    needs("integer", "avx2")
    whole, padded = (assembly(U4, algorithm="integer", isa="avx2", tile=tile).count("\n") for tile in (512, 640))
    assert padded < 1.1 * whole
