"""The GPU benchmark: its peers compute the workload, and without a GPU it says so."""

from __future__ import annotations

import contextlib
import importlib.util
import json
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from fettle.bench.gpu import WORKLOADS, PeerResult, opened_ahead, peer_results
from fettle.bench.peers.packages import Absent, GpuRival, attempt, packages
from fettle.cli.app import app
from fettle.graph import data
from fettle.graph.errors import Unsupported
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def results(torch: Any, text: str) -> tuple[PeerResult, ...]:
    workload = Workload.parse(text)
    operands = data.operands(workload, 0)
    reference = data.reference(workload, operands)
    return peer_results(torch, "cpu", workload, operands, reference, 3, lambda calls, rounds: 2e-6)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("matmul m=5 n=24 k=64 act=bf16 weight=bf16", "torch matmul"),
        ("matmul batch=2 m=5 n=24 k=64 act=f16 rhs=f16", "torch matmul"),
        ("matmul m=5 n=24 k=64 act=f16 weight=u3:32 compute=f16", "torch matmul, f16 weight"),
        ("attention heads=4 kv_heads=2 q=8 kv=8 dim=16 act=bf16 causal=true", "torch SDPA"),
        ("attention heads=4 kv_heads=2 q=1 kv=30 dim=16 act=bf16", "torch SDPA"),
        ("attention heads=2 q=4 kv=8 dim=16 act=bf16 causal=true", "torch SDPA, masked"),
        ("attention heads=2 q=64 kv=64 dim=16 act=f16 causal=true pattern=ashape:16:1:1", "torch SDPA, masked"),
        ("attention heads=4 kv_heads=2 q=1 kv=32 dim=16 act=f16 kvcache=u2:16/f32", "torch SDPA, f16 cache"),
        ("softmax rows=3 cols=40 act=bf16", "torch softmax"),
        ("matmul m=16 n=32 k=64 act=f8e4m3 weight=f8e4m3", "torch _scaled_mm"),
        ("matmul m=16 n=32 k=64 act=f8e4m3 weight=f8e5m2 out=f16", "torch _scaled_mm"),
        ("matmul m=16 n=32 k=64 act=f8e4m3 weight=f8e4m3 epilogue=y*b0", "torch _scaled_mm, then y*b0"),
        ("matmul m=5 n=24 k=64 act=bf16 weight=bf16 out=f32 epilogue=y+y*b0", "torch matmul, then y+y*b0"),
        (
            "matmul m=5 n=24 k=64 act=f16 weight=u3:32 compute=f16 epilogue=relu(y+b0)+x0",
            "torch matmul, f16 weight, then relu(y+b0)+x0",
        ),
    ],
)
def test_peers_compute_the_workload(text: str, name: str) -> None:
    torch = pytest.importorskip("torch")
    (peer,) = results(torch, text)
    assert (peer.name, peer.seconds) == (name, 2e-6)
    assert 0.0 < peer.error_ratio <= 1.5, "torch rounds as we may, or once more"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("matmul m=20 n=24 k=64 act=i8 rhs=i8", "torch _int_mm"),
        ("lossless n=8 k=64 act=bf16", "torch clone of the plain weight"),
    ],
)
def test_exact_peers_make_no_error(text: str, name: str) -> None:
    torch = pytest.importorskip("torch")
    (peer,) = results(torch, text)
    assert (peer.name, peer.error_ratio) == (name, 0.0)


@pytest.mark.parametrize(
    ("weight", "name"),
    [("u8:row", "torch _int_mm of rounded rows"), ("f8e4m3:row compute=f8e4m3", "torch _scaled_mm of rounded rows")],
)
def test_peers_round_activations_where_ours_may(weight: str, name: str) -> None:
    torch = pytest.importorskip("torch")
    dense, bytes_ = results(torch, f"matmul m=20 n=32 k=256 act=bf16 weight={weight}")
    assert bytes_.name == name
    assert dense.error_ratio < bytes_.error_ratio <= 1.0


def test_work_that_torch_has_not_has_no_peer() -> None:
    torch = pytest.importorskip("torch")
    assert results(torch, "rmsnorm rows=2 cols=16 act=bf16") == ()


def test_all_workloads_exist() -> None:
    assert len({str(Workload.parse(text)) for text in WORKLOADS}) == len(WORKLOADS)


class Sessions:
    """Opens sessions that say when they are closed; of a softmax it cannot."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed: list[str] = []

    def open(self, workload: Workload) -> Any:
        if workload.operator == "softmax":
            raise Unsupported("no softmax")
        self.opened.append(str(workload))
        session = contextlib.ExitStack()
        session.callback(self.closed.append, str(workload))
        return session


def softmaxes_and_norms(operators: str) -> list[Workload]:
    texts = {"s": "softmax rows={} cols=8 act=f32", "n": "rmsnorm rows={} cols=8 act=f32"}
    return [Workload.parse(texts[operator].format(1 + i)) for i, operator in enumerate(operators)]


def test_sessions_come_in_order_and_each_is_closed() -> None:
    sessions, workloads = Sessions(), softmaxes_and_norms("nnnnn")
    closed = [list(sessions.closed) for _ in opened_ahead(sessions.open, workloads)]
    names = [str(workload) for workload in workloads]
    assert closed == [names[:i] for i in range(5)]
    assert sessions.closed == names


@pytest.mark.parametrize("operators", ["nnnnn", "nnsn", "nsnn", "n"])
def test_sessions_opened_ahead_are_closed_when_no_more_are_wanted(operators: str) -> None:
    sessions = Sessions()
    with contextlib.closing(opened_ahead(sessions.open, softmaxes_and_norms(operators))) as coming:
        next(coming)
    assert sorted(sessions.closed) == sorted(sessions.opened)


def test_a_session_that_cannot_be_opened_leaves_none_open() -> None:
    sessions = Sessions()
    with pytest.raises(Unsupported, match="no softmax"):
        list(opened_ahead(sessions.open, softmaxes_and_norms("nnsnn")))
    assert len(sessions.closed) >= 2
    assert sorted(sessions.closed) == sorted(sessions.opened)


@needs_triton
def test_without_a_gpu_the_error_is_typed(tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FETTLE_STORE", f"{tmp_path}/store.sqlite3")
    done = CliRunner().invoke(app, ["bench", "gpu", "--device", "triton:63"])
    assert isinstance(done.exception, Unsupported)
    assert "no CUDA GPU" in str(done.exception)


@needs_triton
def test_compiling_reports_what_was_built(tmp_path: object) -> None:
    done = CliRunner().invoke(app, ["bench", "compile", "--only", "elementwise", "--each", "2", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    (row,) = found["rows"]
    assert (row["tried"], row["built"], row["failures"]) == (2, 2, [])


@needs_triton
def test_what_a_target_cannot_do_is_a_row_with_the_reason() -> None:
    done = CliRunner().invoke(
        app, ["bench", "compile", "--device", "triton:sm_80", "--only", "weight=f8e4m3", "--each", "1", "--json"]
    )
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.stdout.splitlines()[-1])["rows"]
    assert (row["tried"], row["built"]) == (0, 0)
    assert "does not multiply" in row["unsupported"]


def test_packages_that_are_not_installed_say_how_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    torch, x = SimpleNamespace(bfloat16="bf16"), SimpleNamespace(dtype="bf16")  # what is asked before they are used

    def absent(text: str) -> dict[str, str]:
        workload = Workload.parse(text)
        weight = data.operands(workload, 0)[1]
        assert isinstance(weight, QuantizedWeight)
        found = packages(torch, x, weight)
        return {peer.name: peer.reason for peer in found if isinstance(peer, Absent)}

    four = absent("matmul m=5 n=24 k=64 act=bf16 weight=u4:32 compute=bf16")
    assert set(four) == {"humming", "gemlite", "torchao"}
    assert four["gemlite"] == "not installed: pip install gemlite"
    assert set(absent("matmul m=5 n=24 k=64 act=bf16 weight=u3:32 compute=bf16")) == {"humming"}
    assert set(absent("matmul m=5 n=24 k=64 act=bf16 weight=u8:32:zp compute=bf16")) == {"gemlite"}
    assert absent("matmul m=5 n=24 k=64 act=bf16 weight=tern:32 compute=bf16") == {}


def test_a_package_that_fails_is_absent_with_its_error() -> None:
    def fails() -> GpuRival:
        raise RuntimeError("no nvcc")

    assert attempt("humming", fails) == Absent("humming", "RuntimeError: no nvcc")
