"""Clients that are wrong, hostile or unlucky: clean statuses, and the server goes on."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fettle.graph.errors import (
    FettleError,
    InvalidArgument,
    InvalidGraph,
    NotFound,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from fettle.service.async_client import AsyncClient, connect_async
from fettle.service.channel import MAX_MESSAGE
from fettle.service.client import connect
from fettle.service.server import SERVICES, Server, ServerOptions
from fettle.store.api import Store
from fettle.v1 import tuning_pb2
from tests.service.paper import Steps, matmul, resolve_paper
from tests.service.raw import send

METHODS = [
    "TuningService/SubmitJob",
    "TuningService/GetJob",
    "TuningService/ListJobs",
    "TuningService/WatchJob",
    "TuningService/CancelJob",
    "TuningService/ResumeJob",
    "KernelService/Lookup",
    "KernelService/BatchLookup",
    "KernelService/GetArtifact",
    "KernelService/ListKernels",
    "KernelService/GetStats",
]


async def status_of(channel: grpc.aio.Channel, method: str, raw: bytes) -> grpc.StatusCode:
    try:
        await channel.unary_unary(f"/fettle.v1.{method}")(raw, timeout=10)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


@pytest.mark.parametrize("method", METHODS)
async def test_bytes_that_are_no_message_are_an_invalid_argument(server: Server, method: str) -> None:
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        for raw in (b"\xff" * 100, b"\x0a\xff\xff\xff\xff\x0f", b"\x0a\x05abc"):
            assert await status_of(channel, method, raw) is grpc.StatusCode.INVALID_ARGUMENT


async def test_random_bytes_never_meet_a_defect(server: Server) -> None:
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        for _ in range(150):
            for method in METHODS:
                if "Watch" not in method and "Artifact" not in method:
                    code = await status_of(channel, method, os.urandom(24))
                    assert code not in (grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN), method


@pytest.mark.parametrize("model", [b"", b"not a model", b"\x08\x07", os.urandom(1000)])
async def test_models_that_are_none_are_invalid_graphs(client: AsyncClient, model: bytes) -> None:
    with pytest.raises(InvalidGraph):
        await client.submit(model, device="paper")


async def test_unknown_dimensions_of_a_model_are_refused(client: AsyncClient) -> None:
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 64])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 64])
    relu = helper.make_node("Relu", ["x"], ["y"], name="relu")
    model = helper.make_model(helper.make_graph([relu], "g", [x], [y])).SerializeToString()
    with pytest.raises(FettleError):
        await client.submit(model, device="paper")
    submitted = await client.submission(model, device="paper", dims={"batch": 8})
    assert [(str(w), count) for w, count in submitted.job.spec.workloads] == [
        ("elementwise shape=8x64 act=f32 expr=relu(x0)", 1)
    ]
    with pytest.raises(InvalidGraph):
        await client.submit(model, device="paper", dims={"batch": -8})


async def test_message_above_the_limit_is_refused_and_the_connection_lives(client: AsyncClient) -> None:
    with pytest.raises(ResourceExhausted, match="without_weights"):
        await client.submit(bytes(MAX_MESSAGE), device="paper")
    assert [job async for job in client.jobs()] == []


async def test_foreign_client_that_sends_too_much_is_refused_by_the_server(server: Server) -> None:
    options = [("grpc.max_send_message_length", -1)]
    async with grpc.aio.insecure_channel(str(server.address), options) as channel:
        code = await status_of(channel, "TuningService/GetJob", bytes(MAX_MESSAGE + 1))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await status_of(channel, "TuningService/ListJobs", b"") is grpc.StatusCode.OK


async def test_unknown_method_is_unimplemented(server: Server) -> None:
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        assert await status_of(channel, "TuningService/Iron", b"") is grpc.StatusCode.UNIMPLEMENTED


async def test_more_calls_than_allowed_are_refused(store: Store, steps: Steps) -> None:
    steps.gated = True
    options = ServerOptions("127.0.0.1:0", grace=0.5, max_concurrent_calls=3)
    async with (
        Server(store, steps, resolve=resolve_paper, options=options) as server,
        connect_async(str(server.address)) as client,
    ):
        job = await client.submit(workloads=[(matmul(), 1)], device="paper")
        watches = [client.watch(job.id) for _ in range(3)]
        for watch in watches:
            await anext(watch)
        with pytest.raises(ResourceExhausted):
            await client.job(job.id)
        for watch in watches:
            await watch.aclose()


# ------------------------------------------------------------------------------------------------ ports


async def test_port_in_use_says_so_and_what_to_do(server: Server, store: Store, steps: Steps) -> None:
    second = Server(store, steps, resolve=resolve_paper, options=ServerOptions(str(server.address)))
    with pytest.raises(Unavailable, match=rf"{server.address.port}: Address already in use") as refused:
        await second.start()
    assert "--listen 127.0.0.1:0" in refused.value.hint


async def test_foreign_address_and_malformed_address_are_refused(store: Store, steps: Steps) -> None:
    with pytest.raises(Unavailable, match=r"192\.0\.2\.1"):
        await Server(store, steps, options=ServerOptions("192.0.2.1:0")).start()
    with pytest.raises(InvalidArgument):
        await Server(store, steps, options=ServerOptions("nonsense")).start()


async def test_bytes_that_are_no_http2_do_no_harm(server: Server, client: AsyncClient) -> None:
    def shout() -> None:
        with socket.create_connection(("127.0.0.1", server.address.port)) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n" + os.urandom(4096))

    await asyncio.to_thread(shout)
    assert [job async for job in client.jobs()] == []


# -------------------------------------------------------------------------------------- tokens and TLS


@pytest.fixture
async def guarded(store: Store, steps: Steps, tmp_path: Path) -> AsyncIterator[Server]:
    tokens = tmp_path / "tokens"
    tokens.write_text("# who may come in\nopen sesame\n\nother\n")
    options = ServerOptions("127.0.0.1:0", tokens=tokens, grace=0.5)
    async with Server(store, steps, resolve=resolve_paper, options=options) as running:
        yield running


async def test_calls_need_a_known_token(guarded: Server) -> None:
    address = str(guarded.address)
    for token in (None, "wrong", "open", "open sesame2", "# who may come in"):
        async with connect_async(address, token=token) as client:
            with pytest.raises(Unauthenticated):
                [job async for job in client.jobs()]
            with pytest.raises(Unauthenticated):
                [event async for event in client.watch("x")]
            with pytest.raises(Unauthenticated):
                await client.artifact("0" * 64)
    for token in ("open sesame", "other"):
        async with connect_async(address, token=token) as client:
            assert [job async for job in client.jobs()] == []
    with connect(address, token="other") as sync_client:
        assert await asyncio.to_thread(lambda: list(sync_client.jobs())) == []


async def test_without_token_health_answers_and_reflection_does_not(guarded: Server) -> None:
    async with grpc.aio.insecure_channel(str(guarded.address)) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = await health.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_token_file_must_exist_and_have_tokens(store: Store, steps: Steps, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await Server(store, steps, options=ServerOptions(tokens=tmp_path / "missing")).start()
    (tmp_path / "empty").write_text("# nobody\n")
    with pytest.raises(InvalidArgument):
        await Server(store, steps, options=ServerOptions(tokens=tmp_path / "empty")).start()
    (tmp_path / "other").write_bytes("sésame\n".encode())
    (tmp_path / "binary").write_bytes(b"\xff\n")
    for name, says in (("other", "cannot be sent"), ("binary", "not text")):
        with pytest.raises(InvalidArgument, match=says):
            await Server(store, steps, options=ServerOptions(tokens=tmp_path / name)).start()
    for token in ("sésame", "two\nlines"):
        with pytest.raises(InvalidArgument, match="printable ASCII") as refused:
            connect("localhost:1", token=token)
        assert token not in str(refused.value)


async def test_client_with_tls_is_told_that_the_server_has_none(server: Server) -> None:
    async with connect_async(str(server.address), tls=True) as client:
        with pytest.raises(Unavailable) as unreachable:
            await client.job("x")
    assert "without TLS" in unreachable.value.hint


async def test_tls_encrypts_and_authenticates_the_server(store: Store, steps: Steps, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    await asyncio.to_thread(
        subprocess.run, [*command.split(), *names, "-keyout", key, "-out", cert], check=True, capture_output=True
    )
    options = ServerOptions("127.0.0.1:0", tls_cert=cert, tls_key=key, grace=0.5)
    async with Server(store, steps, resolve=resolve_paper, options=options) as server:
        async with connect_async(str(server.address), tls_ca=cert) as client:
            assert [job async for job in client.jobs()] == []
        for wrong, says in (
            (connect_async(str(server.address)), "a server with TLS"),
            (connect_async(str(server.address), tls=True), "do not vouch"),
        ):
            async with wrong as client:
                with pytest.raises(Unavailable) as unreachable:
                    await client.job("x")
            assert says in unreachable.value.hint
    with pytest.raises(InvalidArgument, match="both"):
        await Server(store, steps, options=ServerOptions(tls_cert=cert)).start()
    for wrong_pair in ((key, cert), (cert, cert)):
        with pytest.raises(InvalidArgument, match="cannot be used for TLS"):
            await Server(store, steps, options=ServerOptions(tls_cert=wrong_pair[0], tls_key=wrong_pair[1])).start()
    with pytest.raises(NotFound):
        await Server(store, steps, options=ServerOptions(tls_cert=cert, tls_key=tmp_path / "none")).start()
    with pytest.raises(NotFound):
        connect("localhost:1", tls_ca=tmp_path / "none")
    with pytest.raises(InvalidArgument, match="cannot be used"):
        connect("localhost:1", tls_ca=key)


# ------------------------------------------------------------------------------- health and reflection


async def test_health_names_every_service_and_says_when_the_server_stops(server: Server) -> None:
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        for name in ("", *SERVICES):
            answer = await stub.Check(health_pb2.HealthCheckRequest(service=name))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICES[0]))
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.create_task(server.stop())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        watch.cancel()
        await stopping


async def test_reflection_lists_the_services(server: Server) -> None:
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        answer = await call.read()
        names = {service.name for service in answer.list_services_response.service}
        assert names == {*SERVICES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
        call.cancel()


async def test_limits_of_a_submission(client: AsyncClient) -> None:
    request = tuning_pb2.SubmitJobRequest(device="paper", title="x" * 5000)
    request.workloads.workloads.add(workload=str(matmul()))
    with pytest.raises(InvalidArgument, match="title"):
        await send(client, client._calls.tuning.SubmitJob, request)
    many = tuning_pb2.SubmitJobRequest(device="paper")
    many.workloads.workloads.extend([tuning_pb2.WorkloadCount(workload=str(matmul()))] * 10_001)
    with pytest.raises(InvalidArgument, match="10001 workloads"):
        await send(client, client._calls.tuning.SubmitJob, many)
