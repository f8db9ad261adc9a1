"""One pass of a model with the cached kernels."""

from __future__ import annotations

import io
import json
from pathlib import Path

import onnx
import pytest
import typer
from onnx import TensorProto, helper
from rich.console import Console

from fettle.backends.registry import resolve_device
from fettle.cli import run as command
from fettle.graph.workload import Workload
from fettle.store.open import open_store
from tests.face.support import DEVICE, SOFTMAX
from tests.store.samples import ARTIFACT, kernel


def _softmax(path: Path) -> str:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [8, 96]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Softmax", ["x"], ["y"], axis=-1)], "soft", values[:1], values[1:])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    return str(path)


def test_model_runs_untuned_and_says_so_where_an_artifact_is_lost(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store.sqlite3"
    with open_store(store) as opened:
        opened.put_artifact(ARTIFACT)
        opened.put_kernel(kernel(Workload.parse(SOFTMAX), resolve_device(DEVICE)[1]))
    (artifact,) = (tmp_path / "artifacts").glob("??/*")
    artifact.unlink()
    told = io.StringIO()
    monkeypatch.setattr(command, "stderr", Console(file=told))
    with pytest.raises(typer.Exit) as ended:
        command.run(_softmax(tmp_path / "soft.onnx"), DEVICE, store=str(store), json=True)
    assert ended.value.exit_code == 0
    report = json.loads(capsys.readouterr().out)
    (node,), (lost,) = report["nodes"], report["lost"]
    assert node["kernel"] == "default schedule"
    assert lost["workload"] == node["workload"] == SOFTMAX
    assert lost["problem"].startswith(f"artifact file {artifact} is missing")
    assert told.getvalue().startswith(f"lost: {SOFTMAX} runs untuned: artifact file {artifact}")
