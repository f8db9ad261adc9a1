"""A job's kernels beside what runs the same work today: the peers compute the same, and a figure needs both sides."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence

import attrs
import numpy as np
import pytest
from onnx import TensorProto, helper

from fettle.backends.api import MeasurePolicy
from fettle.backends.registry import resolve_device
from fettle.bench import beside as module
from fettle.bench.beside import Beside, beside, of_model
from fettle.bench.metrics import normalised_error
from fettle.bench.peers import Rival, onnxnodes
from fettle.cli import results
from fettle.graph import data
from fettle.graph.errors import Unsupported
from fettle.graph.onnx_import import Imported, import_model
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload
from fettle.store.jobs import Job, JobState, WorkloadResult
from fettle.store.specs import Budget, JobSpec
from tests.face.test_runtime import SMALL, example

A, B = Workload.parse("softmax rows=4 cols=64 act=f32"), Workload.parse("rmsnorm rows=4 cols=64 act=f32")


@pytest.fixture(scope="module")
def decoder() -> Imported:
    return import_model(example().build(SMALL).SerializeToString())


def test_onnxruntime_computes_each_workload_of_a_model(decoder: Imported) -> None:
    seen = set()
    for node in decoder.graph.nodes:
        if node.workload is None or node.workload in seen:
            continue
        seen.add(node.workload)
        operands = data.operands(node.workload, 0)
        rival, count = onnxnodes.rival(decoder, node, operands, threads=1)
        assert count == 16  # operands are small
        assert normalised_error(rival.result(), data.reference(node.workload, operands).expected) < 1e-3
    assert {w.operator for w in seen} == {"matmul", "attention", "rmsnorm", "elementwise"}


def test_nodes_with_large_operands_are_not_copied() -> None:
    options = ["--hidden=256", "--mlp=8192", "--heads=4", "--kv-heads=2", "--head-dim=16", "--past=7", "--block=32"]
    model = import_model(example().build(options).SerializeToString())
    node = next(node for node in model.graph.nodes if node.name == "layer0.gate")
    assert node.workload is not None
    assert onnxnodes.rival(model, node, data.operands(node.workload, 0), threads=1)[1] == 1


def test_nodes_that_onnxruntime_lacks_are_no_peer(decoder: Imported) -> None:
    with pytest.raises(Unsupported, match="no node of the model"):
        of_model(decoder)(A, data.operands(A, 0), 1)
    codes = Workload.parse("elementwise shape=1x8 act=u8 expr=x0+1")
    node = attrs.evolve(decoder.graph.nodes[0], workload=codes)
    with pytest.raises(Unsupported, match="operators of its own for codes"):
        onnxnodes.rival(decoder, node, data.operands(codes, 0), 1)
    with pytest.raises(Unsupported, match="refuses the model"):
        onnxnodes.session(b"no model", 1)


class Kernel:
    """Counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def prepare(self, *operands: Operand, out: np.ndarray) -> Callable[[], object]:
        def call() -> None:
            self.calls += 1

        return call


def scaled(factor: float) -> module.Peers:
    """A peer whose calls compute the workload four times, and whose result is the reference's times ``factor``."""

    def peers(workload: Workload, operands: Sequence[Operand], threads: int) -> tuple[list[Rival], int]:
        result = (factor * data.reference(workload, operands).expected).astype(np.float32)
        return [Rival("peer", lambda: None, lambda: result)], 4

    return peers


def test_times_are_of_one_computation_on_both_sides(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = Kernel()

    def timer(groups: dict[str, dict[Workload, Callable[[], object]]], *_: object, **__: object) -> object:
        groups[module.OURS][A]()
        return {module.OURS: {A: 4.0}, "peer": {A: 8.0}}

    monkeypatch.setattr(module, "interleave_groups", timer)
    assert beside({A: kernel}, scaled(1.0), 1) == {A: Beside("peer", 1.0, 2.0)}  # type: ignore[dict-item]
    assert kernel.calls == 4
    assert Beside("peer", 1.0, 2.0).speedup == 2.0


def test_peer_with_another_result_is_not_timed() -> None:
    found = beside({A: Kernel()}, scaled(2.0), 1)  # type: ignore[dict-item]
    assert found == {A: Beside(missing="peer computes something else")}
    assert found[A].speedup is None


def printed(
    rows: Sequence[WorkloadResult], peers: dict[Workload, Beside], is_pass: bool = True, width: int = 160
) -> str:
    _, device = resolve_device("cpu")
    spec = JobSpec(tuple((r.workload, r.count) for r in rows), device, "cpu", Budget(4, None), MeasurePolicy())
    stream = io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results.stdout, "file", stream)
        patch.setattr(results.stdout, "width", width)
        results.print_results(Job("j", spec, JobState.DONE, 0.0, 0.0, results=tuple(rows)), peers, is_pass)
    return stream.getvalue()


ROWS = (
    WorkloadResult(A, 3, 4, verified=True, default_s=2e-6, best_s=1e-6, bound_s=5e-7, bound="read:L1"),
    WorkloadResult(B, 1, 4, verified=True, default_s=3e-6, best_s=3e-6, bound_s=1e-6, bound="read:L1"),
)


def test_table_sums_a_pass_by_how_often_each_kernel_occurs() -> None:
    text = printed(ROWS, {A: Beside("onnxruntime", 1e-6, 4e-6), B: Beside("onnxruntime", 4e-6, 2e-6)})
    assert "than onnxruntime" in text
    total = next(line for line in text.splitlines() if "all kernels of one pass" in line)
    cells = [cell.strip() for cell in total.split("│")]
    assert cells[5:10] == ["9 µs", "6 µs", "1.50x", "2.00x", "42 %"]  # (3·2 + 3) / (3·1 + 3), (3·4 + 2) / (3·1 + 4)


def test_sum_has_no_ratio_that_leaves_a_kernel_out() -> None:
    text = printed(ROWS, {A: Beside("onnxruntime", 1e-6, 4e-6), B: Beside(missing="no such operator")})
    total = next(line for line in text.splitlines() if "all kernels of one pass" in line)
    assert [cell.strip() for cell in total.split("│")][8] == "–"
    assert f"no peer beside {B}: no such operator" in text
    unfinished = attrs.evolve(ROWS[1], best_s=None, default_s=None)
    assert "all kernels" not in printed((ROWS[0], unfinished), {})


def test_narrow_terminal_gets_lines_with_every_figure_whole() -> None:
    failed = attrs.evolve(ROWS[1], best_s=None, default_s=None, bound_s=None, verified=False, error="nothing fits")
    peers = {A: Beside("onnxruntime", 1e-6, 4e-6), B: Beside("torch", 4e-6, 2e-6)}
    text = printed((ROWS[0], failed), peers, width=78)
    assert max(map(len, text.splitlines())) <= 78
    words = " ".join(text.split())
    figures = "default 2 µs; best 1 µs; than default 2.00x; than peer 4.00x onnxruntime; of bound 50 % read:L1;"
    assert f"{A} × 3; trials 4; failed 0; {figures} verified yes; from measured" in words
    assert f"{B} nothing fits × 1;" in words
    assert "all kernels of one pass × 4;" in " ".join(printed(ROWS, peers, width=78).split())


def test_table_without_peers_has_no_column_for_them() -> None:
    reason = "onnxruntime is not installed (pip install 'fettle-tuner[compare]')"
    text = printed(ROWS, {row.workload: Beside(missing=reason) for row in ROWS}, is_pass=False)
    assert "than default" in text
    assert "than peer" not in text
    assert "all kernels" not in text
    assert f"no peer beside the kernels: {reason}" in text


def test_next_step_names_the_sizes_that_a_model_was_tuned_for() -> None:
    text = results.next_step("m.onnx", True, "cpu,threads=1", {"batch": 2, "past": 7})
    command, call = text.splitlines()
    assert command.endswith("fettle run m.onnx --device cpu,threads=1 --dim batch=2 --dim past=7")
    assert call == """in Python: fettle.load("m.onnx", "cpu,threads=1", dims={'batch': 2, 'past': 7})"""
    assert results.next_step(str(A), False, "cpu") == f'in Python: fettle.lookup("{A}", "cpu")'


def test_next_step_names_the_store_and_mode_that_were_tuned_for() -> None:
    text = results.next_step("my model.onnx", True, "cpu", store="/tmp/my store")
    assert "fettle run 'my model.onnx' --device cpu --store '/tmp/my store'\n" in text
    assert text.endswith('fettle.load("my model.onnx", "cpu", store="/tmp/my store")')
    call = results.next_step(str(A), False, "cpu", store="s", mode="cold")
    assert call == f'in Python: fettle.lookup("{A}", "cpu", mode="cold", store="s")'


def test_models_in_a_newer_file_format_than_onnxruntime_reads_are_compared_all_the_same() -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negate", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)])
    model.ir_version = 1_000_000
    (y,) = onnxnodes.session(model.SerializeToString(), 1).run(None, {"x": np.float32([1, 2, 3])})
    assert list(y) == [-1, -2, -3]


def test_a_refusal_says_what_is_wrong_and_not_where_in_the_source_of_onnxruntime() -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "negate", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 9_999)], ir_version=10)
    with pytest.raises(Unsupported, match="9999") as refused:
        onnxnodes.session(model.SerializeToString(), 1)
    assert "onnxruntime_src" not in str(refused.value)
