"""``fettle cache code`` on a compiled kernel and on what has no machine code of a GPU."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from fettle.backends.api import Artifact, Candidate, MeasurePolicy
from fettle.backends.registry import resolve_device
from fettle.backends.triton.executor import CompileExecutor
from fettle.backends.triton.program import ABI, CODE, Program
from fettle.cli.machinecode import code
from fettle.graph import codec
from fettle.graph.errors import FettleError, InvalidArgument, NotFound, Unsupported
from fettle.graph.workload import Workload
from fettle.store.open import open_store
from tests.store.samples import ARTIFACT, kernel

CHAIN = "elementwise shape=4096 act=f16 expr=silu(x0)*x1"

needs_triton = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")


def keep(store: Path, artifact: Artifact) -> str:
    with open_store(store) as opened:
        sha256 = opened.put_artifact(artifact)
        opened.put_kernel(kernel(artifact_sha256=sha256))
    return sha256


@needs_triton
def test_a_compiled_kernel_is_counted_and_unpacked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "triton"))
    backend, device = resolve_device("triton:sm_90")
    workload = Workload.parse(CHAIN)
    candidate = Candidate(workload, device, backend.default(workload, device))
    with (
        CompileExecutor(backend, device, builders=1) as executor,
        executor.open(workload, MeasurePolicy(timeout=120.0), seed=0) as session,
    ):
        (built,) = session.build([candidate])
    assert built.artifact is not None
    sha256 = keep(tmp_path / "store", built.artifact)
    code(sha256[:12], out=tmp_path / "code", store=str(tmp_path / "store"), json=True)
    report = json.loads(capsys.readouterr().out)
    (launch,) = report["launches"]
    loop = launch["loop"]
    assert report["target"] == "sm_90"
    assert launch["resources"]["spills"] == 0
    assert loop.pop("total") == sum(loop.values()) > 0
    assert loop["global"] >= 3, "two loads and a store"
    abi = json.loads((tmp_path / "code" / "abi.json").read_text())
    assert [a["parameter"] for a in abi["kernels"][0]["launch"]["arguments"]] == ["x0_ptr", "x1_ptr", "out_ptr"]
    assert (tmp_path / "code" / "0.cubin").read_bytes().startswith(b"\x7fELF")
    assert "EXIT" in (tmp_path / "code" / "0.sass").read_text()
    with pytest.raises(InvalidArgument, match="cannot write the code"):
        code(sha256, out=tmp_path / "code" / "0.cubin", store=str(tmp_path / "store"))


@pytest.mark.parametrize(
    ("start", "error", "why"),
    [("e2", InvalidArgument, "too short"), ("0123456789", NotFound, "begins with"), ("", InvalidArgument, "too short")],
)
def test_names_of_no_artifact_are_refused(tmp_path: Path, start: str, error: type[FettleError], why: str) -> None:
    keep(tmp_path, ARTIFACT)
    with pytest.raises(error, match=why):
        code(start, store=str(tmp_path))


@pytest.mark.parametrize(
    ("artifact", "why"),
    [
        (ARTIFACT, "elf-object"),
        (Artifact(codec.dumps(Program("gfx942", (), ())), CODE, ABI, "x", CHAIN, ARTIFACT.schedule), "gfx942"),
    ],
)
def test_what_is_no_code_of_nvidias_is_refused(tmp_path: Path, artifact: Artifact, why: str) -> None:
    sha256 = keep(tmp_path, artifact)
    with pytest.raises(Unsupported, match=why):
        code(sha256, store=str(tmp_path))
