from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import attrs
import ml_dtypes
import numpy as np
import pytest

from fettle.backends.api import Artifact, Candidate, Device, DeviceText, LoadedKernel, Schedule
from fettle.backends.cpu import CpuBackend, codegen, loader
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.dense import Dense
from fettle.backends.cpu.family import Lowered
from fettle.graph import codec
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.graph.workload import Workload

RNG = np.random.default_rng(3)
X = RNG.standard_normal((3, 24), np.float32)
W = RNG.standard_normal((24, 20), np.float32)


@pytest.fixture
def kernel(backend: CpuBackend, artifact: Artifact) -> LoadedKernel:
    return backend.load(artifact)


def at_offset(array: np.ndarray, offset: int) -> np.ndarray:
    """A copy whose address is ``offset`` bytes past a cache line."""
    buffer = np.empty(array.nbytes + 128, np.uint8)
    start = -buffer.ctypes.data % 64 + offset
    copy = buffer[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "cubin"}, "cubin"),
        ({"abi": "tvm-ffi-9"}, "tvm-ffi-9"),
        ({"isa": ("avx2", "avx999")}, "avx999"),
        ({"payload": b"not an object file"}, "cannot be loaded"),
        ({"entry": "another_name"}, "cannot be loaded"),
        ({"facts": (("family", "unheard"),)}, "unheard"),
    ],
)
def test_artifact_of_another_kind_is_unsupported(
    backend: CpuBackend, artifact: Artifact, change: dict[str, object], words: str
) -> None:
    with pytest.raises(Unsupported, match=words):
        backend.load(attrs.evolve(artifact, **change))


@pytest.mark.parametrize("offset", [0, 4, 20, 60])
def test_arrays_of_any_alignment_compute_the_same(kernel: LoadedKernel, offset: int) -> None:
    packed = [at_offset(array, offset) for array in kernel.pack([W])]
    out = at_offset(np.zeros((3, 20), np.float32), offset)
    kernel.run([at_offset(X, offset)], packed, out)
    np.testing.assert_allclose(out, X @ W, rtol=1e-4, atol=1e-5)


def test_packed_constants_start_on_cache_lines(kernel: LoadedKernel) -> None:
    assert all(array.ctypes.data % 64 == 0 for array in kernel.pack([W]))


def test_read_only_inputs_and_constants_are_accepted(kernel: LoadedKernel) -> None:
    x, packed = X.copy(), kernel.pack([W])
    for array in (x, *packed):
        array.flags.writeable = False
    out = np.zeros((3, 20), np.float32)
    kernel.run([x], packed, out)
    np.testing.assert_allclose(out, X @ W, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("x", "out"),
    [
        (X[:2], np.zeros((3, 20), np.float32)),
        (X.astype(np.float64), np.zeros((3, 20), np.float32)),
        (np.asfortranarray(X), np.zeros((3, 20), np.float32)),
        (X, np.zeros((20, 3), np.float32)),
        (X, np.zeros((3, 40), np.float32)[:, ::2]),
    ],
)
def test_arrays_that_are_not_the_workloads_are_rejected(kernel: LoadedKernel, x: np.ndarray, out: np.ndarray) -> None:
    with pytest.raises(InvalidArgument):
        kernel.run([x], kernel.pack([W]), out)


def test_packed_constants_of_another_layout_are_rejected(kernel: LoadedKernel) -> None:
    with pytest.raises(InvalidArgument, match="packed constants"):
        kernel.run([X], [W], np.zeros((3, 20), np.float32))
    with pytest.raises(InvalidArgument):
        kernel.run([X], [], np.zeros((3, 20), np.float32))


def test_read_only_result_is_rejected(kernel: LoadedKernel) -> None:
    out = np.zeros((3, 20), np.float32)
    out.flags.writeable = False
    with pytest.raises(InvalidArgument, match="read-only"):
        kernel.run([X], kernel.pack([W]), out)


def test_bfloat16_arrays_pass_without_copies(artifact: Artifact, device: Device) -> None:
    from tvm.script.ir_builder import IRBuilder
    from tvm.tirx.script.builder import ir as T

    with IRBuilder() as builder, T.prim_func(s_tir=True):
        T.func_name("negated")
        x, y = (T.arg(name, T.buffer((2, 16), "bfloat16", align=2)) for name in ("x", "y"))
        with T.serial(0, 32) as i:
            T.buffer_store(y, T.bfloat16(0) - x[i // 16, i % 16], [i // 16, i % 16])
    payload, facts = codegen.compile(Lowered(builder.get()), device, artifact.entry)
    text = "elementwise shape=2x16 act=bf16 expr=-x0"
    negated = loader.load(attrs.evolve(artifact, payload=payload, facts=facts, workload=text), Dense())
    x = np.arange(32).reshape(2, 16).astype(ml_dtypes.bfloat16)
    out = np.ones_like(x)
    negated.run([x], [], out)
    np.testing.assert_array_equal(out.astype(np.float32), -x.astype(np.float32))


@pytest.mark.skipif(len(cpu.usable_cores()) < 2, reason="needs two cores")
def test_kernels_of_several_thread_counts_share_a_process_and_its_threads(backend: CpuBackend) -> None:
    workload = Workload.parse("matmul m=64 n=64 k=16 act=f32 weight=f32")
    kernels: list[LoadedKernel] = []
    for count in (1, 2):
        device = backend.device(DeviceText.parse(f"cpu,threads={count}"))
        schedule = attrs.evolve(
            backend.default(workload, device),
            values={**backend.default(workload, device).as_dict(), "tile_m": 1, "tile_n": 1},
        )
        kernels.append(backend.load(backend.build(Candidate(workload, device, schedule))))
    x, w = RNG.standard_normal((64, 16), np.float32), RNG.standard_normal((16, 64), np.float32)

    def calls(_: int) -> float:
        worst = 0.0
        for kernel in kernels * 20:
            out = np.full((64, 64), np.nan, np.float32)
            kernel.run([x], kernel.pack([w]), out)
            worst = max(worst, float(np.abs(out - x @ w).max()))
        return worst

    before = os.sched_getaffinity(0)
    with ThreadPoolExecutor(3) as pool:
        assert max(pool.map(calls, range(6))) < 1e-3
    assert os.sched_getaffinity(0) == before


@pytest.mark.skipif(len(cpu.usable_cores()) < 2, reason="needs two cores")
def test_forked_processes_go_on_with_a_kernel_of_several_threads(backend: CpuBackend, tmp_path: Path) -> None:
    workload = Workload.parse("matmul m=64 n=64 k=16 act=f32 weight=f32")
    device = backend.device(DeviceText.parse("cpu,threads=2"))
    schedule = Schedule.of(**backend.default(workload, device).as_dict() | {"tile_m": 1, "tile_n": 1})
    path = tmp_path / "artifact"
    path.write_bytes(codec.dumps(backend.build(Candidate(workload, device, schedule))))
    program = f"""
import multiprocessing
import time
import numpy as np
from fettle.backends.api import Artifact
from fettle.backends.cpu import CpuBackend
from fettle.graph import codec
kernel = CpuBackend().load(codec.loads(Artifact, open({str(path)!r}, "rb").read()))
packed = kernel.pack([np.ones((16, 64), np.float32)])
def call(value):
    out = np.full((64, 64), np.nan, np.float32)
    kernel.run([np.full((64, 16), value, np.float32)], packed, out)
    return bool((out == 16 * value).all())
assert call(1)
time.sleep(0.2)  # the pool's workers are asleep
with multiprocessing.get_context("fork").Pool(2) as pool:
    assert pool.map(call, range(8)) == [True] * 8
assert call(2)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_loading_needs_neither_tvm_nor_a_compiler(artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "artifact"
    path.write_bytes(codec.dumps(artifact))
    program = f"""
import sys
import numpy as np
from fettle.backends.api import Artifact
from fettle.backends.cpu import CpuBackend
from fettle.graph import codec
kernel = CpuBackend().load(codec.loads(Artifact, open({str(path)!r}, "rb").read()))
out = np.zeros((3, 20), np.float32)
kernel.run([np.ones((3, 24), np.float32)], kernel.pack([np.ones((24, 20), np.float32)]), out)
assert (out == 24).all()
assert "tvm" not in sys.modules
"""
    environment = {**os.environ, "PATH": "", "CXX": ""}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=60)
