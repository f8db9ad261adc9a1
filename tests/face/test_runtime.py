"""The runtime: kernels and leftovers together compute what the model says."""

from __future__ import annotations

import importlib.util
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import ClassVar

import attrs
import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, numpy_helper, parser

from fettle.differences import compare
from fettle.graph.data import reference
from fettle.graph.errors import InvalidArgument, InvalidGraph, Unsupported
from fettle.graph.onnx.reference import evaluate
from fettle.graph.onnx_import import Imported, import_model
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.sharing import alternatives, shared
from fettle.graph.workload import Workload
from fettle.runtime import GraphRuntime

SMALL = ["--hidden=64", "--mlp=96", "--heads=4", "--kv-heads=2", "--head-dim=16", "--past=7", "--block=32"]


def example() -> ModuleType:
    path = Path(__file__).parents[2] / "examples" / "decoder_layer.py"
    spec = importlib.util.spec_from_file_location("decoder_layer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def decoder(*options: str) -> Imported:
    return import_model(example().build([*SMALL, *options]).SerializeToString()).filled(0)


class NumpyKernel:
    """The reference semantics as a kernel."""

    prepared: ClassVar[Counter[Workload]] = Counter()

    def __init__(self, workload: Workload) -> None:
        self.workload = workload

    def prepare(self, *operands: Operand, out: np.ndarray) -> Callable[[], object]:
        NumpyKernel.prepared[self.workload] += 1
        assert (out.shape, out.dtype) == (self.workload.result.shape, self.workload.result.format.dtype)
        for spec, operand in zip(self.workload.operands, operands, strict=True):
            assert operand.shape == spec.shape
            assert isinstance(operand, QuantizedWeight) == (spec.format.is_quantised and spec.constant)
            if isinstance(operand, np.ndarray):
                assert operand.flags.c_contiguous
                assert not np.shares_memory(operand, out)

        def run() -> None:
            out.view(np.uint8)[...] = 0xFF  # whatever it shares memory with is not needed any more
            if self.workload.operator == "quantize":
                (x,) = operands
                assert isinstance(x, np.ndarray)
                out[...] = self.workload["out"].prepare(x)
            else:
                out[...] = reference(self.workload, operands).expected

        return run


def inputs(imported: Imported, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        tensor.name: rng.standard_normal(tensor.shape).astype(np.float32)
        if tensor.format.is_float
        else rng.integers(0, 8, tensor.shape, np.int64)
        for tensor in imported.graph.inputs
    }


@pytest.mark.parametrize("options", [[], ["--sequence", "3"], ["--layers", "2", "--bits", "8"], ["--batch", "2"]])
def test_decoder_computes_what_onnx_says(options: list[str]) -> None:
    imported = decoder(*options)
    data = inputs(imported)
    differences = compare(GraphRuntime(imported, NumpyKernel)(data), evaluate(imported.model, data))
    assert len(differences) >= 3
    assert max(d.nrmse for d in differences.values()) < 1e-6


def test_decoder_is_near_onnxruntime_with_8_bit_activations() -> None:
    imported = decoder()
    data = inputs(imported)
    session = onnxruntime.InferenceSession(imported.model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    theirs = dict(zip(names, session.run(None, data), strict=True))
    differences = compare(GraphRuntime(imported, NumpyKernel)(data), theirs)
    assert max(d.nrmse for d in differences.values()) < 0.03


@pytest.mark.parametrize("element", ["i8", "lut4"])
def test_products_that_share_a_preparation_compute_what_onnx_says(element: str) -> None:
    imported = decoder("--sequence", "3")
    ways = alternatives(imported.graph, [element])
    assert [[node.name for node in way.apart] for way in ways] == [
        ["layer0.q", "layer0.k", "layer0.v"],
        ["layer0.gate", "layer0.up"],
    ]
    data = inputs(imported)
    together = attrs.evolve(imported, graph=shared(imported.graph, ways))
    differences = compare(GraphRuntime(together, NumpyKernel)(data), evaluate(imported.model, data))
    assert 1e-6 < max(d.nrmse for d in differences.values()) < 0.03


@pytest.mark.parametrize("without", ["quantize", "matmul"])
def test_prepared_activations_need_kernels(without: str) -> None:
    imported = decoder()
    together = attrs.evolve(imported, graph=shared(imported.graph, alternatives(imported.graph, ["i8"])))
    with pytest.raises(Unsupported, match="has no tensor 'layer0"):
        GraphRuntime(together, lambda w: None if w.operator == without else NumpyKernel(w))


def test_outputs_outlive_the_next_call() -> None:
    runtime = GraphRuntime(imported := decoder(), NumpyKernel)
    first = runtime(inputs(imported, 1))
    kept = {name: array.copy() for name, array in first.items()}
    runtime(inputs(imported, 2))
    assert all((first[name] == kept[name]).all() for name in kept)


def test_kernels_are_asked_once_and_prepared_once_a_node() -> None:
    asked: list[Workload] = []
    NumpyKernel.prepared.clear()

    def kernels(workload: Workload) -> NumpyKernel:
        asked.append(workload)
        return NumpyKernel(workload)

    runtime = GraphRuntime(imported := decoder(), kernels)
    for seed in range(2):
        runtime(inputs(imported, seed))
    assert len(asked) == len(set(asked))
    assert dict(NumpyKernel.prepared) == dict(imported.graph.workloads())


def test_workloads_without_a_kernel_are_left_to_the_reference() -> None:
    imported = decoder()
    data = inputs(imported)
    half = GraphRuntime(imported, lambda w: NumpyKernel(w) if w.operator == "matmul" else None)
    none = GraphRuntime(imported, lambda w: None)
    for runtime in (half, none):
        differences = compare(runtime(data), evaluate(imported.model, data))
        assert max(d.nrmse for d in differences.values()) < 1e-6


def small(body: str, weights: dict[str, np.ndarray] | None = None, opset: int = 21) -> Imported:
    proto: ModelProto = parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]>' + body)
    for name, array in (weights or {}).items():
        proto.graph.initializer.append(numpy_helper.from_array(array, name))
    return import_model(proto.SerializeToString())


def check(imported: Imported, data: dict[str, np.ndarray]) -> None:
    differences = compare(GraphRuntime(imported, NumpyKernel)(data), evaluate(imported.model, data))
    assert max(d.nrmse for d in differences.values()) < 1e-6


def test_constants_are_computed_first_and_used_as_weights() -> None:
    rng = np.random.default_rng(0)
    weights = {"w": rng.standard_normal((5, 8)).astype(np.float32), "c": rng.standard_normal(5).astype(np.float32)}
    imported = small("g (float[2,8] x) => (float[2,5] y) { y = Gemm<transB=1, beta=0.5>(x, w, c) }", weights)
    check(imported, {"x": rng.standard_normal((2, 8)).astype(np.float32)})


def test_control_flow_sees_tensors_from_outside() -> None:
    imported = small(
        "g (float[4] x, bool c) => (float[4] y) { a = Relu(x) y = If<"
        "then_branch = t () => (float[4] o) { o = Neg(a) }, else_branch = e () => (float[4] o) { o = Exp(x) }>(c) }"
    )
    for flag in (True, False):
        check(imported, {"x": np.arange(-2, 2, dtype=np.float32), "c": np.array(flag)})


def test_inputs_and_constants_may_be_outputs() -> None:
    imported = small(
        "g (float[2] x) => (float[2] x, float[2] y, float[2] w) { y = Add(x, w) }", {"w": np.ones(2, "f4")}
    )
    result = GraphRuntime(imported, NumpyKernel)({"x": np.array([1, 2], np.float32)})
    assert {name: array.tolist() for name, array in result.items()} == {"x": [1, 2], "y": [2, 3], "w": [1, 1]}


X = "float[2,1,6,4] x"


@pytest.mark.parametrize(
    ("given", "body"),
    [
        (X, "(float[2,6,1,4] y) { t = Transpose<perm=[0,2,1,3]>(x) y = Identity(t) }"),  # moves an axis of extent 1
        (X, "(float[4,6,1,2] y) { y = Transpose(x) }"),
        (X, "(float[2,24] y) { f = Flatten<axis=1>(x) y = Neg(f) }"),
        (X, "(float[2,6,4] y) <int64[1] a = {1}> { y = Squeeze(x, a) }"),
        (X, "(float[2,1,6,8] y) { n = Neg(x) y = Concat<axis=-1>(n, x) }"),
        (X, "(float[2,3,6,4] y) <int64[4] s = {2, 3, 6, 4}> { y = Expand(x, s) }"),
        (X, "(float[2,1,2,3] y) <int64[2] s = {-1, 0}, int64[2] e = {-5, 3}, int64[2] a = {2, 3}, int64[2] t = {-2, 1}>"
            " { y = Slice(x, s, e, a, t) }"),
        (X, "(float[1,1,6,4] y) <int64[1] s = {1}, int64[1] e = {9223372036854775807}> { y = Slice(x, s, e) }"),
        ("float[2,1,6,4] x, int64[3] i", "(float[2,1,3,4] y) { y = Gather<axis=2>(x, i) }"),
        ("float[1,2,3,8] x, float[9,4] c, float[9,4] s, int64[1,3] i", "(float[1,2,3,8] y) "
         "{ y = RotaryEmbedding(x, c, s, i) }"),
        ("float[2,2,3,8] x, float[9,4] c, float[9,4] s, int64[2,3] i", "(float[2,2,3,8] y) "
         "{ y = RotaryEmbedding<interleaved=1>(x, c, s, i) }"),
    ],
)  # fmt: skip
def test_what_lies_between_kernels_needs_no_evaluator(given: str, body: str) -> None:
    imported = small(f"g ({given}) => {body}", opset=23)
    runtime = GraphRuntime(imported, NumpyKernel)
    data = inputs(imported)
    differences = compare(runtime(data), evaluate(imported.model, data))
    assert max(d.nrmse for d in differences.values()) < 1e-6
    assert runtime.slow == []


@pytest.mark.parametrize(
    ("given", "body"),
    [
        (f"{X}, int64[4] s", "(float[2,n,6,4] y) { y = Expand(x, s) }"),  # a shape that nobody knows before
        ("float[2,6] x", "(int64[2,n] z, float[2,6] y) { z = NonZero(x) y = CumSum(x, a) }"),
        ("float[1,2,3,8] x, float[1,3,4] c, float[1,3,4] s", "(float[1,2,3,8] y) { y = RotaryEmbedding(x, c, s) }"),
    ],
)
def test_other_nodes_are_left_to_the_evaluator(given: str, body: str) -> None:
    imported = small(f"g ({given}) => {body}", {"a": np.array(1)}, opset=23)
    runtime = GraphRuntime(imported, NumpyKernel)
    data = inputs(imported)
    if "s" in data and data["s"].dtype == np.int64:
        data["s"] = np.array([2, 5, 6, 4])
    differences = compare(runtime(data), evaluate(imported.model, data))
    assert max(d.nrmse for d in differences.values()) < 1e-6
    assert runtime.slow


def test_a_pass_without_checks_reads_and_writes_arrays_of_the_model() -> None:
    runtime = GraphRuntime(imported := decoder(), NumpyKernel)
    assert runtime.slow == []
    data = inputs(imported)
    wanted = runtime(data)
    places = runtime.outputs
    with pytest.raises(TypeError):
        runtime.inputs["x"] = data["x"]  # type: ignore[index]
    runtime.inputs["x"][...] = 0
    runtime.run()
    assert not np.allclose(places["y"], wanted["y"])
    for name, array in data.items():
        runtime.inputs[name][...] = array
    runtime.run()
    for name, place in places.items():
        assert np.array_equal(place, wanted[name])
        assert np.shares_memory(place, runtime.outputs[name])


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({}, "'x' is missing"),
        ({"x": np.zeros(4, np.float32), "z": np.zeros(1)}, "no input 'z'"),
        ({"x": np.zeros(5, np.float32)}, "expected float32"),
        ({"x": np.zeros(4)}, "expected float32"),
    ],
)
def test_wrong_inputs_are_refused(data: dict[str, np.ndarray], says: str) -> None:
    runtime = GraphRuntime(small("g (float[4] x) => (float[4] y) { y = Relu(x) }"), NumpyKernel)
    with pytest.raises(InvalidArgument, match=says):
        runtime(data)


def test_missing_weights_are_refused() -> None:
    with pytest.raises(InvalidGraph, match="fill the model's weights"):
        GraphRuntime(import_model(example().build(SMALL).SerializeToString()), NumpyKernel)


def test_leftovers_without_a_reference_are_unsupported() -> None:
    text = '<ir_version: 8, opset_import: ["" : 21, "own" : 1]> g (float[4] x) => (float[4] y) { y = own.Magic(x) }'
    with pytest.raises(Unsupported, match="Magic"):
        GraphRuntime(import_model(parser.parse_model(text).SerializeToString()), NumpyKernel)


def test_differences_are_absolute_and_relative_to_the_reference() -> None:
    wanted = {"a": np.array([3.0, 4.0]), "b": np.zeros(2), "c": np.array([np.inf, 1.0])}
    found = {"a": np.array([3.0, 4.5]), "b": np.zeros(2), "c": np.array([np.inf, 1.0])}
    result = compare(found, wanted)
    assert (result["a"].max_error, result["a"].nrmse) == pytest.approx((0.5, 0.1))
    assert (result["b"].max_error, result["b"].nrmse) == (0.0, 0.0)
    assert result["c"].max_error == 0.0
    assert compare({"a": np.array([np.nan, 4.0])}, {"a": wanted["a"]})["a"].max_error == float("inf")
    with pytest.raises(InvalidArgument, match="'a' is missing"):
        compare({}, wanted)


def test_tensors_between_nodes_share_an_arena() -> None:
    imported = decoder("--layers", "2")
    runtime = GraphRuntime(imported, NumpyKernel)
    made = {name for node in imported.graph.nodes for name in node.outputs}
    assert runtime.arena.views.keys() <= made
    assert runtime.arena.least <= runtime.arena.peak < 0.5 * runtime.arena.together
    first, second = runtime(inputs(imported, 0)), runtime(inputs(imported, 1))
    again = runtime(inputs(imported, 0))
    for name in first:
        assert np.array_equal(first[name], again[name])
        assert not any(np.shares_memory(second[name], view) for view in runtime.arena.views.values())
