"""PyTorch programs become ONNX models with the workloads a reader of the module expects."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fettle
from fettle.graph.errors import InvalidArgument, InvalidGraph, Unavailable, Unsupported
from fettle.graph.onnx.importer import import_model
from fettle.graph.onnx.reference import evaluate
from fettle.tuning import read_work


@pytest.fixture(scope="module")
def torch() -> Any:
    pytest.importorskip("onnxscript")
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def block(torch: Any) -> Any:
    """A decoder block: normalisation, causal attention of two heads, a gated product."""

    class Block(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.RMSNorm(32, eps=1e-5)
            self.qkv = torch.nn.ModuleList(torch.nn.Linear(32, 32, bias=False) for _ in range(3))
            self.gate, self.up = torch.nn.Linear(32, 48), torch.nn.Linear(32, 48)

        def forward(self, x: Any) -> Any:
            rows = self.norm(x)
            q, k, v = (each(rows).unflatten(-1, (2, 16)).transpose(1, 2) for each in self.qkv)
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            y = x + y.transpose(1, 2).flatten(2)
            return torch.nn.functional.silu(self.gate(y)) * self.up(y)

    torch.manual_seed(0)
    return Block().eval()


@pytest.fixture(scope="module")
def model(torch: Any, block: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fettle.from_torch(block, (torch.zeros(1, 8, 32),), tmp_path_factory.mktemp("model") / "block.onnx")


def test_module_becomes_workloads_with_attention_and_normalisation_whole(model: Path) -> None:
    work = read_work(model)
    assert {(workload.operator, count) for workload, count in work.workloads if workload.operator != "matmul"} == {
        ("rmsnorm", 1),
        ("attention", 1),
        ("elementwise", 1),
    }
    products = [
        str(workload) for workload, count in work.workloads for _ in range(count) if workload.operator == "matmul"
    ]
    assert (
        sorted(text.split(" act")[0] for text in products)
        == ["matmul m=8 n=32 k=32"] * 3 + ["matmul m=8 n=48 k=32"] * 2
    )
    assert "attention heads=2 q=8 kv=8 dim=16 act=f32 causal=true" in {str(workload) for workload, _ in work.workloads}


def test_model_computes_what_the_module_computes(torch: Any, block: Any, model: Path) -> None:
    x = torch.randn(1, 8, 32, generator=torch.Generator().manual_seed(1))
    imported = import_model(model)
    (name,) = (value.name for value in imported.model.graph.input)
    (result,) = evaluate(imported.filled(0).model, {name: x.numpy()}).values()
    np.testing.assert_allclose(result, block(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_exported_program_with_a_varying_dimension_is_bound_by_name(torch: Any, tmp_path: Path) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(16, 4), torch.nn.Softmax(-1)).eval()
    shapes = ({0: torch.export.Dim("rows")},)
    path = fettle.from_torch(module, (torch.zeros(2, 16),), tmp_path / "module.onnx", dynamic_shapes=shapes)
    with pytest.raises(InvalidGraph, match="--dim rows=1"):
        read_work(path)
    assert [str(w).split(" act")[0] for w, _ in read_work(path, {"rows": 5}).workloads] == [
        "matmul m=5 n=4 k=16",
        "softmax rows=5 cols=4",
    ]
    program = torch.export.export(module, (torch.zeros(2, 16),))
    assert "m=2" in str(read_work(fettle.from_torch(program, (), tmp_path / "program.onnx")).workloads[0][0])


ATTENTIONS: list[tuple[Any, ...]] = [
    ((3, 5, 8), (3, 7, 8), (3, 5, 7), {}, "heads=3 q=5 kv=7 dim=8 act=f32 mask=1x3x5x7"),
    ((5, 8), (7, 8), None, {}, "heads=1 q=5 kv=7 dim=8 act=f32"),
    ((2, 3, 4, 5, 8), (2, 3, 4, 7, 8), (3, 1, 5, 7), {}, "batch=6 heads=4 q=5 kv=7 dim=8 act=f32 mask=6x4x5x7"),
    ((2, 4, 5, 8), (2, 1, 7, 8), None, {}, "batch=2 heads=4 kv_heads=1 q=5 kv=7 dim=8 act=f32"),
    ((2, 4, 5, 8), (1, 4, 7, 8), None, {}, "batch=2 heads=4 q=5 kv=7 dim=8 act=f32"),
    ((2, 4, 5, 8), (2, 2, 7, 8), None, {"enable_gqa": True}, "batch=2 heads=4 kv_heads=2 q=5 kv=7 dim=8 act=f32"),
    ((1, 4, 5, 8), (1, 4, 7, 8), None, {"is_causal": True}, "heads=4 q=5 kv=7 dim=8 act=f32 mask=1x1x5x7"),
]
"""Shapes of queries, of keys and values, of the mask; options; the workload."""


def test_attention_of_any_shape_that_pytorch_takes(torch: Any, tmp_path: Path) -> None:
    class Module(torch.nn.Module):  # type: ignore[name-defined, misc]
        def forward(self, every: list[list[Any]]) -> list[Any]:
            attention = torch.nn.functional.scaled_dot_product_attention
            return [
                attention(q, k, v, *mask, **options)
                for (q, k, v, *mask), (*_, options, _) in zip(every, ATTENTIONS, strict=True)
            ]

    drawn = torch.Generator().manual_seed(0)
    operands = [
        [torch.randn(*shape, generator=drawn) for shape in (q, k, k, mask) if shape is not None]
        for q, k, mask, *_ in ATTENTIONS
    ]
    imported = import_model(fettle.from_torch(Module().eval(), (operands,), tmp_path / "attention.onnx"))
    found = [str(node.workload) for node in imported.graph.nodes if node.workload]
    assert sorted(found) == sorted(f"attention {text}" for *_, text in ATTENTIONS)
    flat = [operand.numpy() for each in operands for operand in each]
    inputs = dict(zip((value.name for value in imported.model.graph.input), flat, strict=True))
    for result, expected in zip(evaluate(imported.model, inputs).values(), Module()(operands), strict=True):
        np.testing.assert_allclose(result, expected.numpy(), rtol=1e-4, atol=1e-5)


def test_modules_that_learn_are_exported_as_they_run(torch: Any, tmp_path: Path) -> None:
    """While a bias is learnt, attention is traced in a form whose result has other strides."""

    class Module(torch.nn.Module):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Parameter(torch.randn(1, 2, 5, 5))
            self.norm = torch.nn.Parameter(torch.randn(8))

        def forward(self, x: Any) -> Any:
            heads = torch.nn.functional.rms_norm(x, (8,)).view(1, 5, 2, 4).transpose(1, 2)
            y = torch.nn.functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=self.bias)
            return y.transpose(1, 2).contiguous().view(1, 5, 8) * self.norm

    path = fettle.from_torch(Module().eval(), (torch.zeros(1, 5, 8),), tmp_path / "module.onnx")
    assert [w.operator for w, _ in read_work(path).workloads] == ["rmsnorm", "attention"]


def test_module_of_bfloat16_has_the_workloads_of_float32(torch: Any, tmp_path: Path) -> None:
    layers = torch.nn.Linear(32, 48), torch.nn.GELU(), torch.nn.LayerNorm(48, bias=False)
    module = torch.nn.Sequential(*layers).to(torch.bfloat16).eval()
    path = fettle.from_torch(module, (torch.zeros(4, 32, dtype=torch.bfloat16),), tmp_path / "module.onnx")
    product, norm = (w for w, _ in read_work(path).workloads)
    assert (str(product["act"]), str(product["weight"]), norm.operator) == ("f32", "f32", "layernorm")
    assert "erf" in str(product["epilogue"])


def test_program_that_depends_on_values_is_refused_with_the_reason(torch: Any, tmp_path: Path) -> None:
    class Branch(torch.nn.Module):  # type: ignore[name-defined, misc]
        def forward(self, x: Any) -> Any:
            return x + 1 if x.sum() > 0 else x

    with pytest.raises(InvalidGraph, match=r"PyTorch cannot export the program: .*data-dependent"):
        fettle.from_torch(Branch(), (torch.zeros(4),), tmp_path / "branch.onnx")
    assert not any(tmp_path.iterdir())


def test_bad_arguments_are_refused(torch: Any, tmp_path: Path) -> None:
    module, inputs = torch.nn.Softmax(-1), (torch.zeros(2, 4),)
    with pytest.raises(InvalidArgument, match="does not end in"):
        fettle.from_torch(module, inputs, tmp_path / "model.pt2")
    with pytest.raises(InvalidArgument, match="a str is neither"):
        fettle.from_torch("model", inputs, tmp_path / "model.onnx")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument, match="a Tensor, not a sequence"):
        fettle.from_torch(module, torch.zeros(2, 4), tmp_path / "model.onnx")
    with pytest.raises(Unavailable, match="cannot be written"):
        fettle.from_torch(module, inputs, tmp_path / "missing" / "model.onnx")


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(Unsupported, match=r"pip install 'fettle-tuner\[torch\]'"):
        fettle.from_torch(None, (), tmp_path / "model.onnx")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["model.pt2", "model.pt", "model.pth"])
def test_files_of_pytorch_are_refused_with_the_way_out(name: str) -> None:
    with pytest.raises(InvalidArgument, match=r"fettle\.from_torch"):
        read_work(os.path.join("somewhere", name))
