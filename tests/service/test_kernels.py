"""Lookups and artifacts over the wire."""

from __future__ import annotations

import asyncio

import attrs
import pytest

from fettle.graph import codec
from fettle.graph.errors import DataLoss, InvalidArgument, InvalidWorkload, NotFound
from fettle.service.async_client import AsyncClient
from fettle.service.client import connect
from fettle.service.server import Server
from fettle.service.streams import ArtifactAssembler
from fettle.store.lookup import Miss
from fettle.store.memory import MemoryStore
from fettle.v1 import kernels_pb2
from tests.service.paper import PAPER, make_artifact, make_kernel, matmul, resolve_paper
from tests.service.raw import send

DEVICE = PAPER.devices()[0]


async def test_lookup_finds_the_kernel_by_device_text_and_by_identity(client: AsyncClient, store: MemoryStore) -> None:
    artifact = make_artifact()
    store.put_artifact(artifact)
    kernel = make_kernel(matmul(), DEVICE, artifact)
    store.put_kernel(kernel)
    for device in ("paper", DEVICE):
        found = await client.lookup(matmul(), device)
        assert found.match == "exact"
        assert found.key == kernel.key
        assert found.kernel == kernel
        assert found.misses == ()


async def test_miss_names_the_fields_that_differ(client: AsyncClient, store: MemoryStore) -> None:
    empty = await client.lookup(matmul(), "paper")
    assert (empty.match, empty.kernel) == ("none", None)
    assert [miss.field for miss in empty.misses] == ["store"]
    artifact = make_artifact()
    store.put_artifact(artifact)
    store.put_kernel(make_kernel(matmul(k=128), resolve_paper("paper,threads=1")[1], artifact, mode="cold"))
    missed = await client.lookup(matmul(k=64), "paper")
    assert missed.misses == (
        Miss("workload.k", "64", "128"),
        Miss("device.threads", "2", "1"),
        Miss("mode", "hot", "cold"),
    )


async def test_batch_answers_in_the_order_of_the_question(client: AsyncClient, store: MemoryStore) -> None:
    artifact = make_artifact()
    store.put_artifact(artifact)
    store.put_kernel(make_kernel(matmul(128), DEVICE, artifact))
    workloads = [matmul(64 * index) for index in range(1, 2502)]
    found = await client.batch_lookup(workloads[:3], "paper")
    assert [result.match for result in found] == ["none", "exact", "none"]
    with pytest.raises(InvalidArgument, match="at most 1000"):
        await send(
            client,
            client._calls.kernels.BatchLookup,
            kernels_pb2.BatchLookupRequest(workloads=[str(w) for w in workloads[:1001]]),
        )


async def test_batches_of_any_size_are_split_by_the_client(client: AsyncClient, store: MemoryStore) -> None:
    found = await client.batch_lookup([matmul(64 * index) for index in range(1, 1103)], "paper")
    assert len(found) == 1102
    assert len({result.key for result in found}) == 1102


async def test_malformed_lookups_are_refused(client: AsyncClient) -> None:
    stub = client._calls.kernels
    with pytest.raises(InvalidWorkload):
        await send(client, stub.Lookup, kernels_pb2.LookupRequest(workload="origami", device={"text": "paper"}))
    for request in (
        kernels_pb2.LookupRequest(workload=str(matmul())),
        kernels_pb2.LookupRequest(workload=str(matmul()), device={"identity": {}}),
        kernels_pb2.LookupRequest(workload=str(matmul()), device={"identity": {"backend": "b", "facts": {"x": {}}}}),
        kernels_pb2.LookupRequest(workload=str(matmul()), device={"text": "paper"}, mode=7),
    ):
        with pytest.raises(InvalidArgument):
            await send(client, stub.Lookup, request)


@pytest.mark.parametrize("size", [0, 1, 65536, 1_000_000])
async def test_artifact_arrives_byte_for_byte(client: AsyncClient, store: MemoryStore, size: int) -> None:
    artifact = make_artifact(size)
    sha256 = store.put_artifact(artifact)
    assert await client.artifact(sha256) == artifact


async def test_artifact_is_streamed_in_chunks_with_its_size_first(client: AsyncClient, store: MemoryStore) -> None:
    artifact = make_artifact(200_000)
    call = client._calls.kernels.GetArtifact(kernels_pb2.GetArtifactRequest(sha256=store.put_artifact(artifact)))
    chunks = [chunk async for chunk in call]
    expected = codec.dumps(artifact)
    assert chunks[0].header.size == len(expected)
    assert b"".join(chunk.data for chunk in chunks[1:]) == expected
    assert [len(chunk.data) for chunk in chunks[1:-1]] == [65536] * 3


async def test_damaged_artifact_is_data_loss_on_the_wire(client: AsyncClient, store: MemoryStore) -> None:
    sha256 = store.put_artifact(make_artifact())
    store._artifacts[sha256] = 0.0, codec.dumps(attrs.evolve(make_artifact(), entry="mian"))
    with pytest.raises(DataLoss):
        await client.artifact(sha256)


async def test_unknown_artifact_is_not_found_and_a_bad_name_is_refused(client: AsyncClient) -> None:
    with pytest.raises(NotFound):
        await client.artifact("0" * 64)
    for name in ("", "xyz", "0" * 63, "A" * 64, "../../etc/passwd", "0" * 64 + "\n"):
        with pytest.raises(InvalidArgument):
            await client.artifact(name)


def test_client_notices_bytes_damaged_on_the_way() -> None:
    artifact = make_artifact(1000)
    good = codec.dumps(artifact)

    def assemble(size: int, *data: bytes) -> object:
        assembler = ArtifactAssembler(artifact.sha256)
        assembler.add(kernels_pb2.ArtifactChunk(header={"size": size}))
        for part in data:
            assembler.add(kernels_pb2.ArtifactChunk(data=part))
        return assembler.finish()

    assert assemble(len(good), good[:500], good[500:]) == artifact
    with pytest.raises(DataLoss, match="499 of"):
        assemble(len(good), good[:499])
    with pytest.raises(DataLoss, match="more than"):
        assemble(len(good), good, b"!")
    with pytest.raises(DataLoss, match="hash"):
        assemble(len(good), good[:-1], bytes([good[-1] ^ 1]))
    with pytest.raises(DataLoss):
        ArtifactAssembler(artifact.sha256).finish()


async def test_kernels_and_counts_are_listed(client: AsyncClient, store: MemoryStore) -> None:
    artifact = make_artifact()
    store.put_artifact(artifact)
    other = resolve_paper("paper,threads=1")[1]
    kernels = [make_kernel(matmul(), DEVICE, artifact), make_kernel(matmul(128), other, artifact)]
    for kernel in kernels:
        store.put_kernel(kernel)
    assert set(await client.kernels()) == set(kernels)
    assert await client.kernels("paper,threads=1") == (kernels[1],)
    assert await client.kernels(operator="softmax") == ()
    assert await client.stats() == store.stats()


async def test_sync_client_looks_up_and_fetches_too(server: Server, store: MemoryStore) -> None:
    artifact = make_artifact()
    store.put_artifact(artifact)
    kernel = make_kernel(matmul(), DEVICE, artifact)
    store.put_kernel(kernel)

    def use() -> None:
        with connect(str(server.address)) as client:
            assert client.lookup(matmul(), "paper").kernel == kernel
            assert [r.match for r in client.batch_lookup([matmul(), matmul(128)], DEVICE)] == ["exact", "none"]
            assert client.artifact(artifact.sha256) == artifact
            assert client.kernels(operator="matmul") == (kernel,)
            assert client.stats() == store.stats()
            with pytest.raises(NotFound):
                client.artifact("f" * 64)

    await asyncio.to_thread(use)
