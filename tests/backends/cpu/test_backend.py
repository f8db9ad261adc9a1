from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from fettle.backends.api import Artifact, Candidate, Device
from fettle.backends.cpu import CpuBackend
from fettle.backends.registry import get_backend, resolve_device
from fettle.backends.spaces import is_valid
from fettle.graph.errors import Unsupported
from fettle.graph.workload import Workload

WORKLOADS = {
    "dense": "matmul m=8 n=64 k=64 act=f32 weight=f32",
    "gemv": "matmul m=1 n=64 k=64 act=f32 weight=u4:32",
    "rows": "softmax rows=4 cols=64 act=f32",
}


def test_importing_and_describing_needs_neither_tvm_nor_torch() -> None:
    program = f"""
import sys
from fettle.backends.cpu import CpuBackend
from fettle.graph.workload import Workload
backend = CpuBackend()
device, = backend.devices()
for text in {tuple(WORKLOADS.values())!r}:
    workload = Workload.parse(text)
    backend.supports(workload, device), backend.space(workload, device), backend.default(workload, device)
assert not {{"tvm", "tvm_ffi", "torch"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_backend_is_registered() -> None:
    assert isinstance(get_backend("cpu"), CpuBackend)
    assert resolve_device("cpu,threads=1")[1].limit("threads") == 1


@pytest.mark.parametrize(("name", "text"), WORKLOADS.items())
def test_each_family_makes_its_operators(backend: CpuBackend, device: Device, name: str, text: str) -> None:
    workload = Workload.parse(text)
    assert backend.supports(workload, device)
    assert backend.family(workload, device).name == name
    assert is_valid(backend.space(workload, device), backend.default(workload, device))


def test_unsupported_workload_carries_the_reasons_of_the_families_of_its_operator(
    backend: CpuBackend, device: Device
) -> None:
    workload = Workload.parse("matmul m=1 n=64 k=64 act=f16 weight=f16")
    support = backend.supports(workload, device)
    assert not support
    assert [reason.split(":")[0] for reason in support.reason.split("; ")] == ["dense", "dense8", "gemm", "gemv"]
    with pytest.raises(Unsupported):
        backend.space(workload, device)


def test_an_operator_that_no_family_makes_is_told_which_there_are(backend: CpuBackend, device: Device) -> None:
    support = backend.supports(Workload.parse("lossless n=33 k=130 act=bf16"), device)
    assert not support
    assert "attention conv2d" in support.reason


def test_low_bit_products_with_an_epilogue_are_refused_with_the_reason(backend: CpuBackend, device: Device) -> None:
    support = backend.supports(Workload.parse("matmul m=16 n=64 k=64 act=f32 weight=u4:32 epilogue=relu(y)"), device)
    assert "gemv: no epilogues" in support.reason
    assert "gemm: no epilogues" in support.reason


def test_features_join_workload_schedule_and_emitted_code(
    backend: CpuBackend, device: Device, artifact: Artifact
) -> None:
    workload = Workload.parse(artifact.workload)
    candidate = Candidate(workload, device, artifact.schedule)
    before, after = backend.features(candidate, None), backend.features(candidate, artifact)
    assert before.items() <= after.items()
    assert before["log_flops"] == pytest.approx(np.log2(workload.flops))
    assert after["code_fma"] == dict(artifact.facts)["fma"] > 0
    assert all(type(value) is float and np.isfinite(value) for value in after.values())


def test_building_twice_gives_the_same_artifact(backend: CpuBackend, device: Device, artifact: Artifact) -> None:
    again = backend.build(Candidate(Workload.parse(artifact.workload), device, artifact.schedule))
    assert again.sha256 == artifact.sha256


def test_worker_environment_limits_threads_and_forbids_tvm_to_bind_them(backend: CpuBackend, device: Device) -> None:
    environment = backend.worker_environment(device)
    assert environment["TVM_NUM_THREADS"] == environment["OMP_NUM_THREADS"] == "1"
    assert environment["TVM_BIND_THREADS"] == "0"


def test_worker_processes_measure_alike_whatever_the_user_has_set(
    backend: CpuBackend, device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = backend.worker_environment(device)
    monkeypatch.setenv("TVM_THREAD_POOL_SPIN_COUNT", "0")
    monkeypatch.setenv("FETTLE_THREADS", "adaptive")
    assert backend.worker_environment(device) == before
    assert before["TVM_THREAD_POOL_SPIN_COUNT"] == "300000"
    assert before["FETTLE_THREADS"] == "fixed"


def test_worker_processes_never_import_torch() -> None:
    program = """
import sys
from fettle.backends.cpu import CpuBackend
backend = CpuBackend()
backend.prepare_worker(backend.devices()[0])
assert sys.modules["torch"] is None
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
