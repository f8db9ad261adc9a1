"""``fettle.load``: a model runs with the kernels that the cache has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

import fettle
from fettle.graph.errors import InvalidGraph, NotFound, Unsupported
from fettle.loading import load_model
from tests.face.support import DEVICE, SOFTMAX
from tests.face.test_runtime import SMALL, example

MODEL = (
    '<ir_version: 8, opset_import: ["" : 21]> g (float[8,96] x) => (float[96,8] y) { s = Softmax(x) y = Transpose(s) }'
)


def softmax(x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x.astype(np.float64))
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))


def test_loaded_model_runs_the_tuned_kernel(tuned_folder: Path, tmp_path: Path) -> None:
    onnx.save(parser.parse_model(MODEL), tmp_path / "model.onnx")
    store = str(tuned_folder / "store.sqlite3")
    loaded = load_model(tmp_path / "model.onnx", DEVICE, dims=None, store=store, seed=None)
    assert {str(w): kernel.match for w, kernel in loaded.kernels.items()} == {SOFTMAX: "exact"}
    x = np.random.default_rng(0).standard_normal((8, 96), np.float32)
    assert np.allclose(loaded.runtime({"x": x})["y"], softmax(x).T, rtol=1e-5)


def test_external_weights_are_read_from_beside_the_model(tmp_path: Path) -> None:
    text = MODEL.replace("Softmax(x)", "Mul(x, w)")
    model = parser.parse_model(text)
    weight = np.arange(96, dtype=np.float32)
    model.graph.initializer.append(numpy_helper.from_array(weight, "w"))
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="w.bin", size_threshold=0)
    runtime = fettle.load(tmp_path / "model.onnx", DEVICE, store=str(tmp_path / "store.sqlite3"))
    x = np.ones((8, 96), np.float32)
    assert np.array_equal(runtime({"x": x})["y"], np.tile(weight, (8, 1)).T)


def test_weights_that_a_model_leaves_out_are_drawn_only_if_asked_for(tmp_path: Path) -> None:
    model = example().build(SMALL).SerializeToString()
    with pytest.raises(InvalidGraph, match="seed="):
        fettle.load(model, DEVICE, store=str(tmp_path / "store.sqlite3"))
    with pytest.raises(NotFound, match=r"nowhere\.onnx"):
        fettle.load("nowhere.onnx", DEVICE)


def test_nodes_that_a_device_cannot_do_are_named_with_the_way_out(tmp_path: Path) -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 21]>g (float[1,2,5,5] x) => (float[1,3,3,3] y) { y = Conv(x, w) }'
    )
    model.graph.initializer.append(numpy_helper.from_array(np.ones((3, 2, 3, 3), np.float32), "w"))
    model.graph.node[0].name = "edges"
    with pytest.raises(Unsupported, match=r"^node edges: .* cannot do conv2d .*try cpu"):
        fettle.load(model.SerializeToString(), "npu:systolic", store=str(tmp_path / "store.sqlite3"))
