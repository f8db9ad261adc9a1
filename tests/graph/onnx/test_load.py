"""Hostile and broken model files: every one is refused with an error of ours, before anything is read."""

from __future__ import annotations

import contextlib
import os
import resource
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper, parser

from fettle.graph.errors import InvalidGraph, NotFound, ResourceExhausted
from fettle.graph.onnx import load as loading
from fettle.graph.onnx_import import import_model

HEADER = '<ir_version: 10, opset_import: ["" : 24, "com.microsoft" : 1]>'


def model(body: str) -> onnx.ModelProto:
    return parser.parse_model(HEADER + body)


def refused(body: str, dims: dict[str, int] | None = None) -> str:
    with pytest.raises(InvalidGraph) as caught:
        import_model(model(body).SerializeToString(), dims)
    return str(caught.value)


IMAGE = "g (float[1,1,4,4] x) => (float[n,c,h,w] y)"
DOUBLED = " ".join(f"n{i + 1} = Concat<axis=0>(n{i}, n{i})" for i in range(29))
GOOD = model("g (float[4] x) => (float[4] y) { y = Relu(x) }").SerializeToString()


@settings(max_examples=150)
@given(st.data())
def test_damaged_bytes_are_imported_or_refused_but_never_crash(data: st.DataObject) -> None:
    raw = bytearray(GOOD)
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InvalidGraph):
        import_model(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


@pytest.mark.parametrize("raw", [b"", b"hello world", b"\x00" * 100, b"\x08\x07"])
def test_bytes_that_are_no_model_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidGraph, match="not an ONNX model"):
        import_model(raw)


def test_missing_files_and_folders_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        import_model(tmp_path / "none.onnx")
    with pytest.raises(InvalidGraph, match="not a file"):
        import_model(tmp_path)


def test_files_beyond_the_limit_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "big.onnx"
    path.write_bytes(GOOD)
    monkeypatch.setattr(loading, "MAX_MODEL_BYTES", len(GOOD) - 1)
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail("was read"))
    with pytest.raises(ResourceExhausted, match="external data"):
        import_model(path)


def external(path: Path, location: str, *, offset: str | None = None) -> Path:
    """A model file whose weight says its data lie at ``location``."""
    proto = model("g (float[2,4] x) => (float[2,3] y) { y = MatMul(x, w) }")
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4, 3], data_location=TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value=location)
    if offset is not None:
        weight.external_data.add(key="offset", value=offset)
    proto.graph.initializer.append(weight)
    file = path / "model.onnx"
    file.write_bytes(proto.SerializeToString())
    return file


@pytest.mark.parametrize(
    ("location", "why"),
    [
        ("../secret.bin", "leaves the model"),
        ("a/../../secret.bin", "leaves the model"),
        ("/etc/passwd", "absolute"),
        ("C:\\secret.bin", "absolute"),
        ("..\\secret.bin", "absolute"),
        ("link.bin", "symbolic link"),
        ("linked/secret.bin", "symbolic link"),
        ("", "names no file"),
        (".", "names no file"),
        ("missing.bin", "names no file"),
        ("nul\0.bin", "names no file"),
    ],
)
def test_external_data_outside_the_folder_is_refused_by_name(tmp_path: Path, location: str, why: str) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "model"
    outside.mkdir()
    folder.mkdir()
    (tmp_path / "secret.bin").write_bytes(bytes(48))
    (outside / "secret.bin").write_bytes(bytes(48))
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "linked").symlink_to(outside, target_is_directory=True)
    with pytest.raises(InvalidGraph, match=f"external data of tensor 'w' .*{why}") as caught:
        import_model(external(folder, location))
    assert caught.value.details["tensor"] == "w"


def test_bytes_may_not_have_external_data(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(48))
    with pytest.raises(InvalidGraph, match="given as bytes"):
        import_model(external(tmp_path, "w.bin").read_bytes())


def test_external_data_in_the_folder_are_read_when_filled(tmp_path: Path) -> None:
    weight = np.arange(12, dtype=np.float32).reshape(4, 3)
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "w.bin").write_bytes(weight.tobytes())
    imported = import_model(external(tmp_path, "parts/w.bin"))
    assert [str(w) for w, _ in imported.graph.workloads()] == ["matmul m=2 n=3 k=4 act=f32 weight=f32"]
    (stored,) = imported.filled(0).model.graph.initializer
    assert (numpy_helper.to_array(stored) == weight).all()


@pytest.mark.parametrize("offset", ["40", "-4", "x"])
def test_external_data_shorter_than_the_tensor_are_refused(tmp_path: Path, offset: str) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(48))
    with pytest.raises(InvalidGraph, match=r"\bw\b"):
        import_model(external(tmp_path, "w.bin", offset=offset)).filled(0)


def test_a_relative_path_finds_its_external_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(48))
    file = external(tmp_path, "w.bin")
    monkeypatch.chdir(tmp_path)
    assert import_model(os.fspath(file.name)).graph.workloads()


def test_a_cycle_is_refused_with_its_nodes() -> None:
    text = refused("g (float[4] x) => (float[4] y) { [one] a = Add(x, b) [two] b = Relu(a) y = Relu(b) }")
    assert "cycle" in text
    assert "one" in text
    assert "two" in text


def test_nodes_out_of_order_are_sorted() -> None:
    proto = model("g (float[4] x) => (float[4] y) { y = Exp(a) a = Softmax(x) }")
    graph = import_model(proto.SerializeToString()).graph
    assert [node.workload.operator for node in graph.nodes if node.workload] == ["softmax", "elementwise"]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("g (float[4] x) => (float[4] y) { [first] y = Relu(z) }", "first"),
        ("g (float[4] x) => (float[4] y) { [first] y = NoSuchOperator(x) }", "first"),
        ("g (float[4] x) => (float[4] y) { [first] y = Relu(x, x) }", "first"),
        ("g (float[4] x) => (float[4] y) { [first] y = Relu<colour=1>(x) }", "first"),
        ("g (float[4] x) => (float[4] y) { [first] y = Relu(x) [second] y = Exp(x) }", "second"),
        ("g (float[4] x) => (float[5] y) { y = Relu(x) }", "'y' is declared as"),
        ("g (float[2,4] x, float[5,3] w) => (float[2,3] y) { [first] y = MatMul(x, w) }", "first"),
        ("g (float[4] x, int64[4] i) => (float[4] y) { [first] y = Add(x, i) }", "first"),
        ("g (float[4] x) => (float[4] y) { [first] y = com.microsoft.MatMulNBits(x, x, x) }", "first"),
        (
            "g (float[1,64] x, uint8[8,2,16] b, float[8,2] s) => (float[1,8] y) "
            "{ [first] y = com.microsoft.MatMulNBits<K=65, N=8, bits=4, block_size=32>(x, b, s) }",
            "first",
        ),
        ("g (uint8[1,4] x) => (uint8[1,4] y) { [first] y = QLinearMatMul(x, x) }", "first"),
        ("g (uint8[1,4] x) => (int32[1,4] y) { [first] y = MatMulInteger(x) }", "first"),
        ("g (float[4] x) => (float[4] y) { [first] y = DequantizeLinear(x) }", "first"),
        ("g (float[1,4] x) => (float[1,4] y) { [first] y = Gemm<transA=0.5>(x, x) }", "first"),
        ("g (float[1,4] x) => (float[1,4] y) { [first] y = com.microsoft.BiasGelu() }", "first"),
        (f"{IMAGE} <float[1,1,2,2] w = {{1,1,1,1}}> {{ [first] y = Conv<strides=[2]>(x, w) }}", "first"),
        (f"{IMAGE} <float[1,1,2,2] w = {{1,1,1,1}}> {{ [first] y = ConvTranspose<strides=[0,0]>(x, w) }}", "first"),
        (f"{IMAGE} <float[1,1,2,2] w = {{1,1,1,1}}> {{ [first] y = ConvTranspose<dilations=[0,1]>(x, w) }}", "first"),
        (f"{IMAGE} <float[1,1,2,2] w = {{1,1,1,1}}> {{ [first] y = ConvTranspose<pads=[1]>(x, w) }}", "first"),
        ("g (float[4] x) => (float[n] y) <int64[1] s = {5}> { [first] y = Reshape(x, s) }", "first"),
    ],
)
def test_what_the_checker_or_inference_refuses_is_an_invalid_graph(body: str, says: str) -> None:
    assert says in refused(body)


def test_initializers_shorter_than_their_shape_are_refused() -> None:
    proto = model("g (float[2,64] x) => (float[2,64] y) { y = MatMul(x, w) }")
    proto.graph.initializer.append(
        TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[64, 64], raw_data=bytes(12))
    )
    with pytest.raises(InvalidGraph, match="w"):
        import_model(proto.SerializeToString())


@pytest.mark.parametrize(
    "body",
    [
        "g (float[1099511627776] x) => (float[1099511627776] y) { y = Relu(x) }",
        "g (float[1048576,1048576] x) => (float[1048576,1048576] y) { y = Relu(x) }",
        "g (float[1048576,1] x, float[1,1048576] z) => (float[n,m] y) { y = MatMul(x, z) }",
        "g (float[1048576,1] x, float[1,1048576] z) => (float[1] y) { a = MatMul(x, z) b = Flatten(a) s = Shape(b) "
        "y = CastLike(s, x) }",
    ],
)
def test_absurd_shapes_are_refused(body: str) -> None:
    text = refused(body)
    assert "absurd" in text or "bytes" in text or "declared" in text


@pytest.mark.parametrize(
    "body",
    [
        "<int64 n = {2000000000}, int64 a = {0}, int64 b = {1}> { r = Range(a, n, b) z = Cast<to=1>(r) }",
        "<int64[1] n = {2000000000}> { z = ConstantOfShape(n) }",
        "<int64[1] n = {2000000000}, float[1] a = {1}> { z = Expand(a, n) }",
        "<int64[1] n = {2000000000}, float[1] a = {1}> { z = Tile(a, n) }",
        "<int64[2] n = {0, 2000000000}, float[1] a = {1}> { z = Pad(a, n) }",
        "<int64[2] n = {2000000000, -2000000000}, float[1] a = {1}> { z = Pad(a, n) }",
        "<float[4] n = {1, 1, 50000, 50000}, float[1,1,1,1] a = {1}> { z = Resize(a, , n) }",
        "<float[1,1,1,1] a = {1}> { z = Conv<pads=[90000,90000,90000,90000], strides=[180001,180001]>(a, a) }",
        '<int64[1] n = {200}> { a = ConstantOfShape(n) z = Einsum<equation="a,b,c,d,e->">(a, a, a, a, a) }',
        f"<int64[1] n0 = {{1}}> {{ {DOUBLED} z = Cast<to=1>(n29) }}",
        "<int64[1] n = {2000000000}> { a = ConstantOfShape(n) z = Add(a, a) }",
    ],
)
def test_constants_that_would_take_much_memory_or_time_are_not_computed(body: str) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    raw = model(f"g (float[4] x) => (float[4] y) {body[:-1]} y = Relu(x) }}").SerializeToString()
    imported = import_model(raw)
    assert imported.graph.nodes[-1].workload
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**18  # KiB


@pytest.mark.parametrize("calls", ["b = o.f0(a)", "t = o.f1(a) b = o.f1(t)"])
def test_functions_that_call_themselves_or_double_without_end_are_refused(calls: str) -> None:
    def function(name: str, body: str) -> str:
        return f'<opset_import: ["" : 24, "o" : 1], domain: "o"> {name} (a) => (b) {{ {body} }} '

    text = '<ir_version: 10, opset_import: ["" : 24, "o" : 1]> g (float[4] x) => (float[4] y) { y = o.f0(x) } '
    text += function("f0", calls)
    text += "".join(function(f"f{i}", f"t = o.f{i + 1}(a) b = o.f{i + 1}(t)") for i in range(1, 30))
    with pytest.raises(InvalidGraph, match="functions of the model"):
        import_model(parser.parse_model(text + function("f30", "b = Relu(a)")).SerializeToString())


def test_names_that_rewrites_would_choose_may_be_taken() -> None:
    text = (
        "g (float[1,2,4,8] q, bool[4,4] m) => (float[1,2,4,8] y, float m_additive, float m_seen) "
        "<float m_seen = {3.0}> { y = Attention(q, q, q, m) m_additive = Identity(m_seen) }"
    )
    imported = import_model(model(text).SerializeToString())
    (workload, _), *_ = imported.graph.workloads()
    assert str(workload) == "attention heads=2 q=4 kv=4 dim=8 act=f32 mask=1x1x4x4"


def test_negative_dimensions_are_refused() -> None:
    proto = model("g (float[4] x) => (float[4] y) { y = Relu(x) }")
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value = -4
    with pytest.raises(InvalidGraph):
        import_model(proto.SerializeToString())


SYMBOLIC = "g (float[batch,seq,8] x) => (float[batch,seq,8] y) { y = Softmax(x) }"


def test_symbolic_dimensions_are_bound() -> None:
    graph = import_model(model(SYMBOLIC).SerializeToString(), {"batch": 2, "seq": 3}).graph
    assert [str(w) for w, _ in graph.workloads()] == ["softmax rows=6 cols=8 act=f32"]
    assert graph.outputs[0].shape == (2, 3, 8)


def test_unbound_dimensions_say_what_to_give() -> None:
    assert "give --dim seq=1" in refused(SYMBOLIC, {"batch": 1})


def test_unknown_dimensions_list_the_models() -> None:
    assert "batch seq" in refused(SYMBOLIC, {"batch": 1, "sequence": 1})


@pytest.mark.parametrize("size", [-1, 2**31])
def test_dimensions_out_of_range_are_refused(size: int) -> None:
    assert "not between" in refused(SYMBOLIC, {"batch": 1, "seq": size})


def test_a_dimension_without_size_or_name_is_refused() -> None:
    assert "axis 0 of input 'x'" in refused("g (float[?,8] x) => (float[?,8] y) { y = Softmax(x) }")


@pytest.mark.parametrize("text", ["[1]", "{", '["nothing"]', '"w"', "[" * 100000])
def test_malformed_weight_lists_are_refused(text: str) -> None:
    proto = model("g (float[4] x) => (float[4] y) { y = Relu(x) }")
    helper.set_model_props(proto, {"fettle.weights": text})
    with pytest.raises(InvalidGraph, match=r"fettle\.weights"):
        import_model(proto.SerializeToString())
