"""Lookups: exact hits, and misses that name the fields of the nearest kernel."""

from __future__ import annotations

import attrs
import pytest

from fettle.backends.api import Artifact, Basis, Device, Schedule
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.store.kernels import Kernel, kernel_key
from fettle.store.lookup import Miss, lookup, lookup_all
from fettle.store.memory import MemoryStore

TWO = Device("cpu", facts={"isa": "avx2 avx512f", "model": 26}, limits={"threads": 2})
ONE = attrs.evolve(TWO, limits={"threads": 1})
ARTIFACT = Artifact(b"code", "elf-object", "tvm-ffi-1", "main", "", Schedule.of(tile=4))


def matmul(n: int = 4096, k: int = 4096, weight: str = "u4:128") -> Workload:
    return Workload.of("matmul", m=1, n=n, k=k, act="f32", weight=weight)


def kernel(workload: Workload, device: Device = TWO, mode: str = "hot", basis: Basis = Basis.MEASURED) -> Kernel:
    return Kernel(
        workload=workload,
        device=device,
        schedule=Schedule.of(tile=4),
        artifact_sha256=ARTIFACT.sha256,
        mode=mode,
        basis=basis,
        default_s=2.0,
        best_s=1.0,
        best_ci=(0.9, 1.1),
        bound_s=0.5,
        bound="read:dram",
        max_error=0.0,
        error_ratio=0.0,
        trials=1,
        job_id="",
        created=1.0,
        toolchain="",
        abi="tvm-ffi-1",
        isa=(),
        space_version="1",
    )


def store_of(*kernels: Kernel) -> MemoryStore:
    store = MemoryStore()
    store.put_artifact(ARTIFACT)
    for each in kernels:
        store.put_kernel(each)
    return store


def test_exact_hit_is_found_under_its_key() -> None:
    wanted = kernel(matmul())
    store = store_of(kernel(matmul(k=2048)), wanted, kernel(matmul(), ONE), kernel(matmul(), mode="cold"))
    found = lookup(store, matmul(), TWO)
    assert (found.match, found.kernel, found.key, found.misses) == ("exact", wanted, kernel_key(matmul(), TWO), ())
    cold = lookup(store, matmul(), TWO, "cold")
    assert cold.kernel is not None
    assert cold.kernel.mode == "cold"


def test_measured_kernel_goes_before_simulated_before_replayed() -> None:
    bases = [Basis.REPLAYED, Basis.SIMULATED, Basis.MEASURED]
    store = store_of()
    for basis in bases:
        store.put_kernel(kernel(matmul(), basis=basis))
        found = lookup(store, matmul(), TWO)
        assert found.kernel is not None
        assert found.kernel.basis is basis
        assert found.key == found.kernel.key


@pytest.mark.parametrize("basis", [Basis.PREDICTED, Basis.ESTIMATED])
def test_kernel_that_never_ran_is_never_served_and_the_miss_says_so(basis: Basis) -> None:
    found = lookup(store_of(kernel(matmul(), basis=basis)), matmul(), TWO)
    assert found.match == "none"
    assert [(miss.field, miss.nearest) for miss in found.misses] == [("basis", basis.value)]


def test_empty_cache_says_so() -> None:
    found = lookup(store_of(), matmul(), TWO)
    assert (found.match, found.key, found.kernel) == ("none", kernel_key(matmul(), TWO), None)
    assert found.misses == (Miss("store", "a kernel", "empty"),)


@pytest.mark.parametrize(
    ("stored", "misses"),
    [
        (kernel(matmul(k=2048)), [Miss("workload.k", "4096", "2048")]),
        (kernel(matmul(), ONE), [Miss("device.threads", "2", "1")]),
        (kernel(matmul(), mode="cold"), [Miss("mode", "hot", "cold")]),
        (kernel(matmul(weight="u2:128")), [Miss("workload.weight", "u4:128", "u2:128")]),
        (
            kernel(matmul(), attrs.evolve(TWO, facts={"isa": "avx2", "model": 26, "amx": True})),
            [Miss("device.facts.isa", "avx2 avx512f", "avx2"), Miss("device.facts.amx", "none", "True")],
        ),
        (
            kernel(Workload.of("softmax", rows=8, cols=64, act="f32"), ONE),
            [Miss("workload.operator", "matmul", "softmax"), Miss("device.threads", "2", "1")],
        ),
        (
            kernel(Workload.of("matmul", m=1, n=4096, k=4096, act="f32", weight="f32")),
            [Miss("workload.weight", "u4:128", "f32"), Miss("workload.compute", "i8", "f32")],
        ),
    ],
)
def test_miss_names_each_field_that_differs(stored: Kernel, misses: list[Miss]) -> None:
    assert list(lookup(store_of(stored), matmul(), TWO).misses) == misses


def test_limit_with_the_name_of_a_fact_is_told_apart_from_it() -> None:
    capped = Device("cpu", facts={"isa": "avx512f"}, limits={"isa": "avx2"})
    found = lookup(store_of(kernel(matmul(), attrs.evolve(capped, facts={"isa": "amx"}))), matmul(), capped)
    assert found.misses == (Miss("device.facts.isa", "avx512f", "amx"),)


def test_nearest_is_the_kernel_with_fewest_differing_fields_then_the_closest_numbers() -> None:
    far, near, other = kernel(matmul(k=128)), kernel(matmul(k=8192)), kernel(matmul(k=4096, n=2048), ONE)
    for order in ((far, near, other), (other, near, far)):
        assert lookup(store_of(*order), matmul(), TWO).misses == (Miss("workload.k", "4096", "8192"),)


def test_devices_of_another_backend_are_further_than_any_of_this_one_and_their_facts_are_not_compared() -> None:
    array = Device("npu", "systolic", facts={"model": "array"})
    store = store_of(kernel(matmul(), array))
    assert lookup(store, matmul(k=8), TWO).misses == (
        Miss("workload.k", "8", "4096"),
        Miss("device.backend", "cpu", "npu"),
    )
    store.put_kernel(kernel(matmul(n=64, k=64), ONE))
    assert [miss.field for miss in lookup(store, matmul(), TWO).misses] == [
        "workload.n",
        "workload.k",
        "device.threads",
    ]


def test_kernels_of_the_same_operator_are_nearer_than_any_other() -> None:
    softmax = kernel(Workload.of("softmax", rows=8, cols=64, act="f32"))
    found = lookup(store_of(softmax, kernel(matmul(64, 64, "u2:32"), ONE, "cold")), matmul(), TWO)
    assert {miss.field for miss in found.misses} >= {"workload.n", "workload.k", "device.threads", "mode"}


def test_many_lookups_are_answered_in_order_and_read_the_kernels_once() -> None:
    class Counting(MemoryStore):
        reads = 0

        def kernels(self, *args, **options):  # type: ignore[no-untyped-def]
            self.reads += 1
            return super().kernels(*args, **options)

    store = Counting()
    store.put_artifact(ARTIFACT)
    store.put_kernel(kernel(matmul(64)))
    workloads = [matmul(32 * n) for n in range(1, 50)]
    results = lookup_all(store, workloads, TWO)
    assert [result.match for result in results] == ["none", "exact", *["none"] * 47]
    assert list(results) == [lookup(store_of(kernel(matmul(64))), w, TWO) for w in workloads]
    assert store.reads == 1


def test_unknown_mode_is_refused() -> None:
    with pytest.raises(InvalidArgument):
        lookup(store_of(), matmul(), TWO, "tepid")
