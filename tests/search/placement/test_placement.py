"""Placement: the exact one is the best of all, the rule is near it on decoders, interleaving is a timeline."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest

from fettle.backends.api import Basis
from fettle.cli.app import main
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.graph.onnx_import import import_model
from fettle.graph.workload import Workload
from fettle.search.placement.assign import by_intensity, crossing, exact, greedy
from fettle.search.placement.costs import Cost, CostTable, Link, Place, RooflinePlace, parse_places
from fettle.search.placement.interleave import Stage, interleaving, timeline
from fettle.search.placement.work import decode, decoders, from_graph, parse_decoder, pim_gpt_models

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "decoder_layer.onnx"


class Machine(Place):
    """A roofline with figures of the test's own."""

    def __init__(self, name: str, peak: float, bandwidth: float) -> None:
        self.name, self._peak, self._bandwidth = name, peak, bandwidth

    def cost(self, workload: Workload) -> Cost | None:
        return Cost(max(workload.flops / self._peak, workload.nbytes / self._bandwidth), 1.0, Basis.ESTIMATED)


MEMORY = Machine("memory", peak=1e13, bandwidth=5e12)
PROCESSOR = Machine("processor", peak=5e14, bandwidth=1e12)


@pytest.mark.parametrize("batch", [1, 16, 64])
@pytest.mark.parametrize("link", [Link(1e12, 0.0, 0.0), Link(1e10, 1e-5, 0.0)])
def test_the_exact_placement_is_the_best_of_all(batch: int, link: Link) -> None:
    work = decode("llama3-8b", decoders()["llama3-8b"], batch, 2048)
    table = CostTable.ask(work, (MEMORY, PROCESSOR, RooflinePlace("cpu")), link)
    every = itertools.product(range(3), repeat=len(work.operators))
    least = min(table.total(chosen) for chosen in every)
    assert table.total(exact(table)) == pytest.approx(least, rel=1e-6)
    assert table.total(greedy(table)) >= least * (1 - 1e-9)


@pytest.mark.parametrize("batch", [1, 2, 8, 16, 64, 256])
def test_the_rule_is_near_the_exact_placement_when_devices_share_memory(batch: int) -> None:
    for name, shape in decoders().items():
        table = CostTable.ask(decode(name, shape, batch, 1024), (MEMORY, PROCESSOR), Link(1e12, 0.0, 0.0))
        assert table.total(by_intensity(table)) <= 1.05 * table.total(exact(table)), name


def test_what_the_host_computes_is_no_placement_in_memory() -> None:
    """With many rows the host would be faster than units that take one row after the other."""
    (memory,) = parse_places("pim:gddr6-aim,channels=4")
    few, many = (memory.cost(Workload.parse(f"matmul m={m} n=512 k=512 act=bf16 weight=bf16")) for m in (1, 16))
    assert few is not None
    assert many is not None
    assert many.seconds > 8 * few.seconds


def test_work_stays_together_where_transfers_cost_more_than_they_save() -> None:
    work = decode("llama3-8b", decoders()["llama3-8b"], 16, 1024)  # attention and products are for different places
    near, far = (CostTable.ask(work, (MEMORY, PROCESSOR), Link(1e12, latency, 0.0)) for latency in (0.0, 1.0))
    assert set(by_intensity(near)) == {0, 1}
    assert by_intensity(far) == exact(far)
    assert len(set(by_intensity(far))) == 1


def test_the_crossing_is_where_rooflines_cross() -> None:
    # memory: max(rows/1e13·2nk, …/5e12); it is compute-bound above 2 ops a byte, and meets 1e12 B/s at 10 ops a byte
    probe = Workload.parse("matmul m=1 n=4096 k=4096 act=bf16 weight=bf16")
    assert crossing(MEMORY, PROCESSOR, probe) == pytest.approx(10, rel=0.1)
    assert crossing(PROCESSOR, Machine("slow", 1e10, 1e9), probe) == float("inf")


def test_decoders_have_the_sizes_they_are_known_by() -> None:
    millions = {name: shape.parameters / 1e6 for name, shape in decoders().items()}
    assert millions["gpt2-small"] == pytest.approx(124, rel=0.02)
    assert millions["gpt2-xl"] == pytest.approx(1558, rel=0.02)
    assert millions["llama2-13b"] == pytest.approx(13016, rel=0.03)
    assert len(pim_gpt_models()) == 8


def test_transfers_are_paid_where_neighbours_part() -> None:
    work = parse_decoder("decoder:gpt2-small,batch=2,context=64")
    table = CostTable.ask(work, (MEMORY, PROCESSOR), Link(1e9, 1e-6, 1e-9))
    together, apart = (0,) * 6, (0, 0, 0, 0, 0, 1)
    moved = table.total(apart) - table.total(together) - table.seconds(5, 1) + table.seconds(5, 0)
    assert moved == pytest.approx(1e-6 + 2 * 2 * 768 / 1e9)
    assert table.joules(apart) == pytest.approx(table.joules(together) + 2 * 2 * 768 * 1e-9)  # type: ignore[operator]


def test_a_model_is_placed_by_its_own_edges() -> None:
    work = from_graph(import_model(EXAMPLE).graph)
    assert {edge.source < edge.target for edge in work.edges} == {True}
    table = CostTable.ask(work, (MEMORY, PROCESSOR), Link.default())
    assert len(exact(table)) == len(work.operators)


def test_two_sub_batches_overlap() -> None:
    half = Stage(before=1.0, attention=3.0, after=2.0, head=1.0)
    assert timeline([half], layers=2) == 1 + 3 + (2 + 1) + 3 + (2 + 1)
    # the processor works on one half while the other is in attention: by hand, layer by layer
    assert timeline([half, half], layers=2) == pytest.approx(1 + 3 + 3 + 3 + 3 + 3)
    assert timeline([Stage(1.0, 0.0, 2.0, 0.0)] * 2, layers=3) == 2 * 3 * 3.0


def test_simulated_devices_are_asked_through_their_backends() -> None:
    npu, memory = parse_places("npu:systolic,rows=32,cols=32,bandwidth=256,pim:gddr6-aim")
    assert (npu.name, memory.name) == ("npu:systolic,bandwidth=256,cols=32,rows=32", "pim:gddr6-aim")
    cost = memory.cost(Workload.parse("matmul m=1 n=1024 k=1024 act=bf16 weight=bf16"))
    assert cost is not None
    assert cost.basis is Basis.SIMULATED
    assert npu.cost(Workload.parse("layernorm rows=8 cols=8 act=f32")) is None
    found = interleaving(decoders()["gpt2-small"], 64, 512, npu, memory)
    assert found.two_halves > 0.0
    assert found.interleaved == min(found.naive, found.two_halves)
    assert found.gain == found.naive / found.interleaved >= 1.0
    with pytest.raises(Unsupported):
        interleaving(decoders()["gpt2-small"], 1, 512, npu, memory)


@pytest.mark.parametrize("text", ["decoder:gpt9", "decoder:gpt2-small,batch=0", "decoder:gpt2-small,layers=3"])
def test_wrong_decoders_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument):
        parse_decoder(text)


def test_the_command_reports_three_ways(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["place", "decoder:gpt2-small,context=128", "--devices", "npu:systolic,bandwidth=256,cpu,gpu", "--json"]
    monkeypatch.setattr(sys, "argv", ["fettle", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    value = json.loads(capsys.readouterr().out)
    assert value["devices"] == ["npu:systolic,bandwidth=256", "cpu", "gpu"]
    (report,) = value["graphs"]
    assert [o["name"] for o in report["operators"]] == ["qkv", "attention", "projection", "up", "down", "head"]
    assert report["totals"]["exact"]["over_exact"] == 1.0
    assert report["totals"]["rule"]["seconds"] >= report["totals"]["exact"]["seconds"]
