"""One pass of a model with the cached kernels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
import typer
from onnx import TensorProto, helper

from fettle.cli.run import run
from tests.face.support import DEVICE, SOFTMAX


def test_model_runs_untuned_and_says_so_where_an_artifact_is_lost(
    tuned_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "store"
    shutil.copytree(tuned_folder, folder)
    (artifact,) = (path for path in (folder / "artifacts").glob("??/*") if len(path.name) == 64)
    artifact.unlink()
    shape = [8, 96]
    graph = helper.make_graph(
        [helper.make_node("Softmax", ["x"], ["y"], axis=-1)],
        "soft",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    model = tmp_path / "soft.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), model)
    with pytest.raises(typer.Exit) as ended:
        run(str(model), DEVICE, store=str(folder / "store.sqlite3"), json=True)
    assert ended.value.exit_code == 0
    shown = capfd.readouterr()
    report = json.loads(shown.out)
    (node,), (lost,) = report["nodes"], report["lost"]
    assert node["kernel"] == "default schedule"
    assert lost["workload"] == node["workload"] == SOFTMAX
    assert lost["problem"].startswith(f"artifact file {artifact} is missing")
    assert f"lost: {SOFTMAX} runs untuned" in shown.err
