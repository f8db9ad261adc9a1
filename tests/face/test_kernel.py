"""Kernels from the cache are callable on plain NumPy arrays."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

import fettle
from fettle.backends.api import Artifact, Candidate, Device, Value
from fettle.backends.cpu.device import LEVELS, Machine
from fettle.backends.registry import resolve_device
from fettle.graph import data
from fettle.graph.errors import DataLoss, InvalidArgument, NotFound
from fettle.graph.quantized import QuantizedWeight
from fettle.graph.workload import Workload
from fettle.store.api import Store
from fettle.store.lookup import LookupResult
from fettle.store.lookup import lookup as lookup_stored
from fettle.store.open import open_store
from tests.face.support import DEVICE, SOFTMAX, environment

GEMV = "matmul m=1 n=70 k=136 act=f32 weight=u4:32"


def misaligned(array: np.ndarray, offset: int = 4) -> np.ndarray:
    """A copy that starts ``offset`` bytes behind a 64-byte boundary."""
    raw = np.empty(array.nbytes + 128, np.uint8)
    start = -raw.ctypes.data % 64 + offset
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.parametrize("offset", [0, 4, 36])
def test_cached_kernel_takes_arrays_of_any_alignment(tuned_folder: Path, offset: int) -> None:
    kernel = fettle.lookup(SOFTMAX, DEVICE, store=str(tuned_folder / "store.sqlite3"), default=False)
    (x,) = data.operands(kernel.workload, seed=3)
    assert isinstance(x, np.ndarray)
    reference = data.reference(kernel.workload, [x])
    y = kernel(misaligned(x, offset))
    assert kernel.match == "exact"
    assert (np.abs(y - reference.expected) <= reference.tolerance).all()


def test_weights_are_packed_once_while_the_caller_keeps_them(tmp_path: Path) -> None:
    kernel = fettle.lookup(GEMV, DEVICE, store=str(tmp_path / "store.sqlite3"))
    assert kernel.match == "default"
    x, weight = data.operands(kernel.workload, seed=0)
    packs = []
    original = kernel._loaded.pack
    kernel._loaded.pack = lambda constants: packs.append(1) or original(constants)  # type: ignore[method-assign, func-returns-value]
    first, second = kernel(x, weight), kernel(x, weight)
    reference = data.reference(kernel.workload, (x, weight))
    assert len(packs) == 1
    assert np.array_equal(first, second)
    assert (np.abs(first - reference.expected) <= reference.tolerance).all()
    del weight
    assert not kernel._packed


def tuned_apart(workload: fettle.Workload, **changes: Value) -> fettle.Kernel:
    """A default schedule with values changed, as a kernel."""
    backend, device = resolve_device("cpu,threads=1,isa=avx512vnni")
    schedule = fettle.Schedule.of(**(backend.default(workload, device).as_dict() | changes))
    artifact = backend.build(Candidate(workload, device, schedule))
    return fettle.Kernel(workload, device, artifact, backend.load(artifact), match="default")


@pytest.mark.skipif(not LEVELS["avx512vnni"] <= Machine.detect().features, reason="needs AVX-512 VNNI")
def test_kernels_of_one_and_of_many_rows_keep_one_copy_of_a_weight_in_their_layout() -> None:
    one, many = (fettle.Workload.parse(GEMV.replace("m=1", f"m={m}")) for m in (1, 9))
    decode = tuned_apart(one, algorithm="integer", isa="avx512", tile=32, blocks=1, unroll=1)
    prefill = tuned_apart(many, order="fields", tile=32, interleave=1, panel=32)
    apart = tuned_apart(many, order="fields", tile=64, interleave=1, panel=32)
    x, weight = data.operands(many, seed=0)
    other = data.operands(many, seed=1)[1]
    reference = data.reference(many, (x, weight))
    for kernel in (decode, prefill, apart):
        rows = slice(0, kernel.workload["m"])
        y = kernel(np.asarray(x)[rows], weight)
        assert (np.abs(y - reference.expected[rows]) <= reference.tolerance[rows]).all()
        kernel(np.asarray(x)[rows], other)

    def copies(kernel: fettle.Kernel) -> list[tuple[int, ...]]:
        return [tuple(array.ctypes.data for array in packed.arrays) for packed, _ in kernel._packed.values()]

    assert copies(decode) == copies(prefill)
    assert not set(copies(apart)) & set(copies(decode))
    assert decode.packed_bytes([weight]) == 96 * 160 // 2 + 2 * 96 * 5  # padded to tiles and steps; float16 scales
    assert len(set(copies(decode))) == 2
    del weight
    assert len(copies(decode)) == len(copies(prefill)) == 1


def test_result_goes_into_the_array_given(tmp_path: Path) -> None:
    kernel = fettle.lookup(SOFTMAX, DEVICE, store=str(tmp_path / "store.sqlite3"))
    x = np.zeros((8, 96), np.float32)
    out = np.empty_like(x)
    assert kernel(x, out=out) is out
    assert np.allclose(out, 1 / 96)
    both = np.zeros((9, 96), np.float32)
    for overlapping in (both[:8], both[1:]):
        with pytest.raises(InvalidArgument, match="shares memory with operand x"):
            kernel(both[:8], out=overlapping)


@pytest.mark.parametrize("device", ["cpu,threads=1", "cpu,threads=2", "pim:gddr6-aim,channels=2"])
def test_prepared_call_computes_from_what_its_arrays_hold_now(device: str, tmp_path: Path) -> None:
    act = "bf16" if device.startswith("pim") else "f32"
    text = f"matmul m=1 n=64 k=64 act={act} weight={act}"
    kernel = fettle.lookup(text, device, store=str(tmp_path / "store.sqlite3"))
    x, weight = data.operands(kernel.workload, seed=0)
    other, _ = data.operands(kernel.workload, seed=1)
    assert isinstance(x, np.ndarray)
    call = kernel.prepare(x, weight)
    assert call() is call.out
    assert np.array_equal(call.out, kernel(x, weight))
    expected = kernel(other, weight)
    x[...] = other
    assert np.array_equal(call(), expected)


def test_wrong_arrays_are_refused_when_a_call_is_prepared(tmp_path: Path) -> None:
    kernel = fettle.lookup(SOFTMAX, DEVICE, store=str(tmp_path / "store.sqlite3"))
    x = np.zeros((8, 96), np.float32)
    with pytest.raises(InvalidArgument, match="must be float32"):
        kernel.prepare(np.zeros((8, 95), np.float32))
    with pytest.raises(InvalidArgument, match="shares memory"):
        kernel.prepare(x, out=x)


@pytest.mark.parametrize(
    "operands",
    [
        (),
        (np.zeros((8, 95), np.float32),),
        (np.zeros((8, 96), np.float64),),
        (np.zeros((96, 8), np.float32).T,),
        ("text",),
    ],
    ids=["none", "shape", "type", "transposed", "not an array"],
)
def test_wrong_operands_are_refused(tmp_path: Path, operands: tuple[np.ndarray, ...]) -> None:
    kernel = fettle.lookup(SOFTMAX, DEVICE, store=str(tmp_path / "store.sqlite3"))
    with pytest.raises(InvalidArgument):
        kernel(*operands)


def test_weight_of_another_format_is_refused(tmp_path: Path) -> None:
    kernel = fettle.lookup(GEMV, DEVICE, store=str(tmp_path / "store.sqlite3"))
    other = data.operands(fettle.Workload.parse(GEMV.replace("u4:32", "u2:32")), seed=0)[1]
    assert isinstance(other, QuantizedWeight)
    with pytest.raises(InvalidArgument, match="u4:32"):
        kernel.bind([other])


def test_miss_without_default_names_the_command_that_helps(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="fettle tune"):
        fettle.lookup(SOFTMAX, DEVICE, store=str(tmp_path / "store.sqlite3"), default=False)


def test_miss_says_which_field_differs(tuned_folder: Path) -> None:
    store = tuned_folder / "store.sqlite3"
    with pytest.raises(NotFound, match=r"workload\.cols: wanted 97, nearest 96") as missed:
        fettle.lookup(SOFTMAX.replace("96", "97"), DEVICE, store=store, default=False)
    assert "--cold" not in missed.value.hint
    with pytest.raises(NotFound, match="mode: wanted cold, nearest hot") as missed:
        fettle.lookup(SOFTMAX, DEVICE, store=store, mode="cold", default=False)
    assert missed.value.hint.endswith("--cold")


WRONG_TYPES: list[Callable[[], object]] = [
    lambda: fettle.lookup(12),  # type: ignore[arg-type]
    lambda: fettle.lookup(None),  # type: ignore[arg-type]
    lambda: fettle.lookup([SOFTMAX]),  # type: ignore[arg-type]
    lambda: fettle.lookup(SOFTMAX, 12),  # type: ignore[arg-type]
    lambda: fettle.lookup(SOFTMAX, store=12),  # type: ignore[arg-type]
    lambda: fettle.tune(12),  # type: ignore[arg-type]
    lambda: fettle.tune([SOFTMAX]),  # type: ignore[list-item]
    lambda: fettle.tune(SOFTMAX, trials="12"),  # type: ignore[arg-type]
    lambda: fettle.connect(12),  # type: ignore[arg-type]
    lambda: fettle.load(None),  # type: ignore[arg-type]
    lambda: fettle.lookup(SOFTMAX).bind(None),  # type: ignore[arg-type]
    lambda: fettle.tune_distribution(None, {1: 1.0}, "npu:systolic"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("call", WRONG_TYPES)
def test_arguments_of_wrong_types_are_refused(call: Callable[[], object]) -> None:
    with pytest.raises(InvalidArgument, match=r"not (int|NoneType|list|'12')|holds Workloads"):
        call()


def test_damaged_artifact_is_reported_not_run_and_tuning_replaces_it(tuned_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tuned_folder, tmp_path / "copy")
    store = str(folder / "store.sqlite3")
    (artifact,) = (folder / "artifacts").glob("??/*")
    content = bytearray(artifact.read_bytes())
    content[len(content) // 2] ^= 1
    artifact.chmod(0o644)
    artifact.write_bytes(content)
    with pytest.raises(DataLoss, match="fettle tune"):
        fettle.lookup(SOFTMAX, DEVICE, store=store, default=False)
    fettle.tune(SOFTMAX, DEVICE, trials=2, store=store)
    assert fettle.lookup(SOFTMAX, DEVICE, store=store, default=False).match == "exact"


def test_loading_a_cached_kernel_imports_no_compiler(tuned_folder: Path) -> None:
    program = (
        "import sys, numpy as np, fettle\n"
        f"kernel = fettle.lookup({SOFTMAX!r}, {DEVICE!r}, default=False)\n"
        "kernel(np.zeros((8, 96), np.float32))\n"
        "assert not {'tvm', 'grpc', 'optuna', 'lightgbm', 'onnx'} & set(sys.modules), sorted(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment(tuned_folder), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


class Served:
    """What ``lookup`` asks of a client, answered from a store."""

    def __init__(self, store: Store) -> None:
        self.store = store

    def lookup(self, workload: Workload, device: Device, *, mode: str) -> LookupResult:
        return lookup_stored(self.store, workload, device, mode)

    def artifact(self, sha256: str) -> Artifact:
        return self.store.get_artifact(sha256)


def test_a_kernel_that_a_server_has_runs_here(tuned_folder: Path) -> None:
    with open_store(tuned_folder / "store.sqlite3") as store:
        server = cast(Any, Served(store))
        kernel = fettle.lookup(SOFTMAX, DEVICE, server=server)
        with pytest.raises(NotFound, match=r"workload\.cols") as missed:
            fettle.lookup("softmax rows=8 cols=97 act=f32", DEVICE, server=server, default=False)
        assert missed.value.hint.endswith("--server HOST:PORT")
        with pytest.raises(InvalidArgument, match="write server="):
            fettle.lookup(SOFTMAX, DEVICE, server=cast(Any, "127.0.0.1:50151"))
        with pytest.raises(InvalidArgument, match="exclude each other"):
            fettle.lookup(SOFTMAX, DEVICE, server=server, store=store)
    (x,) = data.operands(kernel.workload, seed=3)
    reference = data.reference(kernel.workload, [x])
    assert kernel.match == "exact"
    assert (np.abs(kernel(x) - reference.expected) <= reference.tolerance).all()
