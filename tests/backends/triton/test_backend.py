from __future__ import annotations

import importlib.util
import subprocess
import sys

import pytest

from fettle.backends.api import Candidate, DeviceText, Schedule
from fettle.backends.registry import get_backend, resolve_device
from fettle.backends.spaces import enumerate_space, is_valid
from fettle.backends.triton import TritonBackend
from fettle.backends.triton.targets import TARGETS
from fettle.graph.errors import InvalidDevice, Unsupported
from fettle.graph.workload import Workload

WORKLOADS = {
    "lowbit": [
        "matmul m=1 n=4096 k=4096 act=f16 weight=u4:128",
        "matmul m=200 n=500 k=384 act=bf16 weight=u1:row compute=f32",
        "matmul m=16 n=64 k=512 act=f16 weight=nvfp4",
        "matmul m=16 n=64 k=512 act=f16 weight=bcq4:64",
        "matmul m=200 n=500 k=384 act=bf16 weight=u8:row compute=i8",
        "matmul m=200 n=500 k=384 act=bf16 weight=f8e4m3:row compute=f8e4m3",
        "matmul m=128 n=500 k=512 act=f16 weight=bcq3:row",
    ],
    "dense": ["matmul m=1 n=5 k=7 act=f16 rhs=f16", "matmul m=4096 n=4096 k=4096 act=bf16 weight=bf16"],
    "attention": [
        "attention heads=32 kv_heads=8 q=1 kv=8192 dim=128 act=bf16 kvcache=u2:64/f32",
        "attention heads=1 q=3000 kv=3000 dim=256 act=f16 causal=true",
    ],
    "rows": ["softmax rows=1 cols=1 act=f16", "softmax rows=64 cols=100 act=f16",
             "layernorm rows=9 cols=100000 act=bf16",
             "elementwise shape=3 act=f32 expr=exp(x0)"],
}  # fmt: skip


def test_importing_and_describing_needs_no_triton() -> None:
    program = f"""
import sys
from fettle.backends.registry import resolve_device
from fettle.graph.workload import Workload
backend, device = resolve_device("triton:sm_90")
for text in {[text for texts in WORKLOADS.values() for text in texts]!r}:
    workload = Workload.parse(text)
    backend.supports(workload, device), backend.space(workload, device), backend.default(workload, device)
assert not {{"triton", "torch", "cuda"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(("family", "texts"), WORKLOADS.items())
def test_each_family_has_legal_defaults_on_every_target(target: str, family: str, texts: list[str]) -> None:
    backend, device = resolve_device(f"triton:{target}")
    assert isinstance(backend, TritonBackend)
    for text in texts:
        workload = Workload.parse(text)
        assert backend.family(workload, device).name == family
        space = backend.space(workload, device)
        assert is_valid(space, backend.default(workload, device))
        assert enumerate_space(space).size >= 1


def test_a_machine_without_triton_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match=r"fettle-tuner\[triton\]"):
        TritonBackend()


def test_stored_kernels_need_cuda_bindings_only(monkeypatch: pytest.MonkeyPatch) -> None:
    device = resolve_device("triton:interpreter")[1]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if name == "cuda" else None)
    backend = TritonBackend()
    with pytest.raises(Unsupported, match="nothing can be compiled"):
        backend.device(DeviceText.parse("triton:sm_90"))
    workload = Workload.parse("softmax rows=8 cols=64 act=f16")
    with pytest.raises(Unsupported, match="Triton is not installed"):
        backend.build(Candidate(workload, device, backend.default(workload, device)))


@pytest.mark.parametrize(
    ("text", "error"),
    [("triton:sm_91", InvalidDevice), ("triton", InvalidDevice), ("triton:sm_90,threads=1", InvalidDevice)],
)
def test_devices_that_do_not_exist_are_refused(text: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        resolve_device(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("matmul m=1 n=64 k=64 act=f32 weight=u4:32", "f16 or bf16"),
        ("matmul m=1 n=64 k=48 act=f16 weight=u4:16", "no multiple of a block"),
        ("matmul m=1 n=64 k=64 act=f16 weight=f8e6m1:32", "f16 has not"),
        ("matmul m=1 n=64 k=64 act=f16 weight=bcq2:32 compute=f32", "rounded"),
        ("attention heads=1 q=1 kv=8 dim=512 act=f16", "more than 256"),
        ("matmul batch=65536 m=1 n=1 k=1 act=f16 rhs=f16", "more than 65535"),
        ("conv2d n=1 c=4 h=8 w=8 oc=4 kh=3 kw=3 act=f32 weight=f32", "only matmul"),
    ],
)
def test_unsupported_workloads_carry_the_reason(text: str, why: str) -> None:
    backend, device = resolve_device("triton:sm_90")
    support = backend.supports(Workload.parse(text), device)
    assert not support
    assert why in support.reason


def test_rounding_is_only_scheduled_where_the_workload_allows_it() -> None:
    backend, device = resolve_device("triton:sm_90")

    def choices(compute: str) -> dict[str, tuple[object, ...]]:
        workload = Workload.parse(f"matmul m=16 n=256 k=512 act=f16 weight=u4:64 compute={compute}")
        return backend.space(workload, device).choices

    assert choices("f32")["scale"] == ("late",)
    assert choices("f16")["scale"] == ("early", "late")
    assert "integer" in choices("i8")["algorithm"]
    assert "integer" not in choices("f16")["algorithm"]


def test_parts_without_ptx_have_no_inline_ptx() -> None:
    backend, device = resolve_device("triton:gfx942")
    for weight in ("u3:64", "mxfp4"):
        workload = Workload.parse(f"matmul m=16 n=256 k=512 act=f16 weight={weight}")
        methods = backend.space(workload, device).choices["method"]
        assert not {"ptx", "raw"} & set(methods)
        assert backend.default(workload, device)["method"] in methods


@pytest.mark.parametrize(
    ("m", "weight", "expected"),
    [
        (1, "bcq3:128", {"method": "raw"}),
        (128, "bcq3:128", {"method": "ptx", "block_m": 128}),
        (8, "nvfp4", {"method": "ptx", "block_n": 128}),
        (64, "u8:row compute=i8", {"algorithm": "float"}),
        (128, "u8:row compute=i8", {"algorithm": "integer"}),
        (128, "u8:row compute=f16", {"algorithm": "float"}),
        (512, "f8e4m3:row compute=f8e4m3", {"algorithm": "fp8", "block_m": 128}),
    ],
)
def test_searches_of_low_bit_products_start_at_what_is_predicted_fast(
    m: int, weight: str, expected: dict[str, object]
) -> None:
    backend, device = resolve_device("triton:sm_90")
    workload = Workload.parse(f"matmul m={m} n=4096 k=4096 act=f16 weight={weight}")
    assert expected.items() <= backend.default(workload, device).as_dict().items()


def test_equal_layouts_have_equal_names_and_others_do_not() -> None:
    backend, device = resolve_device("triton:sm_90")
    workload = Workload.parse("matmul m=16 n=256 k=512 act=f16 weight=u4:64")
    default = backend.default(workload, device).as_dict()

    def name(**changes: object) -> str:
        return backend.weight_layout(workload, device, Schedule(tuple({**default, **changes}.items())))  # type: ignore[arg-type]

    assert name() == name(stages=4, warps=8, swap=False, split=1)
    assert len({name(), name(contiguous="n"), name(block_k=64), name(values=2)}) == 4


def test_the_backend_is_registered() -> None:
    assert isinstance(get_backend("triton"), TritonBackend)
