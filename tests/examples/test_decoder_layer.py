"""The example model: small, valid, and cut into the workloads a decode step consists of."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from fettle.graph.onnx_import import import_model

EXAMPLES = Path(__file__).parents[2] / "examples"


def generate(path: Path, *options: str) -> None:
    subprocess.run([sys.executable, EXAMPLES / "decoder_layer.py", "-o", path, *options], check=True)


def test_committed_model_is_what_the_script_writes(tmp_path: Path) -> None:
    generate(tmp_path / "again.onnx")
    assert (tmp_path / "again.onnx").read_bytes() == (EXAMPLES / "decoder_layer.onnx").read_bytes()
    assert (EXAMPLES / "decoder_layer.onnx").stat().st_size < 8000


def test_committed_model_passes_the_checker() -> None:
    onnx.checker.check_model(EXAMPLES / "decoder_layer.onnx", full_check=True)


def test_one_decode_step_has_the_workloads_of_tinyllama() -> None:
    graph = import_model(EXAMPLES / "decoder_layer.onnx").graph
    assert {str(workload): count for workload, count in graph.workloads()} == {
        "matmul m=1 n=2048 k=2048 act=f32 weight=u4:128/f32": 2,
        "matmul m=1 n=256 k=2048 act=f32 weight=u4:128/f32": 2,
        "matmul m=1 n=5632 k=2048 act=f32 weight=u4:128/f32": 2,
        "matmul m=1 n=2048 k=5632 act=f32 weight=u4:128/f32": 1,
        "attention heads=4 q=8 kv=128 dim=64 act=f32": 1,
        "rmsnorm rows=1 cols=2048 act=f32": 2,
        "elementwise shape=1x5632 act=f32 expr=silu(x0)*x1": 1,
        "elementwise shape=1x2048 act=f32 expr=x0+x1": 2,
    }
    assert {node.reason.split()[-1] for node in graph.unsupported()} == {
        "Reshape", "Transpose", "Concat", "RotaryEmbedding",
    }  # fmt: skip


@pytest.mark.parametrize("layers", [1, 3])
def test_layers_repeat_the_same_workloads(tmp_path: Path, layers: int) -> None:
    generate(tmp_path / "m.onnx", "--layers", str(layers), "--hidden", "64", "--mlp", "96", "--heads", "4",
             "--kv-heads", "2", "--head-dim", "16", "--block", "32")  # fmt: skip
    counts = dict(import_model(tmp_path / "m.onnx").graph.workloads())
    assert sum(counts.values()) == 13 * layers
    assert len(counts) == 8


def test_weights_can_be_stored(tmp_path: Path) -> None:
    small = ["--hidden", "64", "--mlp", "96", "--heads", "4", "--kv-heads", "2", "--head-dim", "16", "--block", "32"]
    generate(tmp_path / "with.onnx", "--weights", *small)
    generate(tmp_path / "without.onnx", *small)
    stored, empty = import_model(tmp_path / "with.onnx"), import_model(tmp_path / "without.onnx")
    assert stored.graph.workloads() == empty.graph.workloads()
    assert not any(value.name.endswith(".weight") for value in stored.model.graph.input)
