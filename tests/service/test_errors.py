"""Every domain error arrives as itself."""

from __future__ import annotations

import inspect

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status
from hypothesis import given
from hypothesis import strategies as st

from fettle.graph import errors as domain
from fettle.service import errors
from fettle.service.async_client import AsyncClient, connect_async
from fettle.service.channel import Target
from fettle.service.server import Server
from fettle.store.memory import MemoryStore

CLASSES = sorted(errors.STATUS, key=lambda cls: cls.__name__)


class FailingStore(MemoryStore):
    """Raises what a test asks for."""

    problem: BaseException

    def get_job(self, job_id: str):  # type: ignore[no-untyped-def]
        raise self.problem


@pytest.fixture
def store() -> FailingStore:
    return FailingStore()


def test_table_has_the_whole_tree() -> None:
    tree = {cls for _, cls in inspect.getmembers(domain, inspect.isclass) if issubclass(cls, domain.FettleError)}
    assert set(errors.STATUS) == tree - {domain.FettleError}


@pytest.mark.parametrize("cls", CLASSES)
async def test_error_arrives_as_the_same_class_with_its_texts(
    cls: type[domain.FettleError], client: AsyncClient, store: FailingStore
) -> None:
    store.problem = cls("the paper is ½ wet", hint="dry it", details={"field": "sheet", "grams": "80"})
    with pytest.raises(domain.FettleError) as raised:
        await client.job("x")
    assert type(raised.value) is cls
    assert raised.value.message == "the paper is ½ wet"
    assert raised.value.hint == "dry it"
    assert raised.value.details == {"field": "sheet", "grams": "80"}


async def test_status_carries_standard_details(server: Server, store: FailingStore) -> None:
    store.problem = domain.InvalidWorkload("too long", hint="cut it")
    async with grpc.aio.insecure_channel(str(server.address)) as channel:
        call = channel.unary_unary("/fettle.v1.TuningService/GetJob")(b"")
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        status = await rpc_status.aio.from_call(call)
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    assert status.details[0].Unpack(info)
    assert status.details[1].Unpack(bad)
    assert (info.domain, info.reason, dict(info.metadata)) == ("fettle.v1", "INVALID_WORKLOAD", {"hint": "cut it"})
    assert [(v.field, v.description) for v in bad.field_violations] == [("workload", "too long")]


async def test_subclass_of_a_plugin_arrives_as_its_nearest_class(client: AsyncClient, store: FailingStore) -> None:
    class Creased(domain.InvalidDevice):
        pass

    store.problem = Creased("creased")
    with pytest.raises(domain.InvalidDevice, match="creased"):
        await client.job("x")


async def test_defect_is_internal_and_tells_nothing_but_an_incident(client: AsyncClient, store: FailingStore) -> None:
    store.problem = ZeroDivisionError("secret")
    with pytest.raises(domain.Internal) as raised:
        await client.job("x")
    assert "secret" not in str(raised.value)
    assert len(raised.value.details["incident"]) == 12


async def test_very_long_texts_are_cut_to_what_headers_carry(client: AsyncClient, store: FailingStore) -> None:
    store.problem = domain.InvalidGraph(
        "é" * 50_000, hint="ü" * 50_000, details={f"k{i}": "x" * 500 for i in range(99)}
    )
    with pytest.raises(domain.InvalidGraph) as raised:
        await client.job("x")
    assert raised.value.message.startswith("ééé")
    assert raised.value.message.endswith("…")


@given(st.text(max_size=3000), st.text(max_size=500), st.dictionaries(st.text(max_size=50), st.text(max_size=300)))
def test_any_texts_fit_into_eight_kilobytes_of_headers(message: str, hint: str, details: dict[str, str]) -> None:
    for cls in (domain.InvalidWorkload, domain.NotFound):
        status = errors.to_status(cls(message, hint=hint, details={**details, "field": message}))
        encoded = sum(len(value) for _, value in status.trailing_metadata) * 4 / 3 + 3 * len(status.details.encode())
        assert encoded < 8192


def test_lone_surrogates_do_not_break_the_status() -> None:
    assert "?" in errors.to_status(domain.NotFound("file \udcff", details={"path": "\udcff"})).details


async def test_failures_of_the_connection_become_unavailable() -> None:
    async with connect_async("127.0.0.1:1", timeout=5.0) as client:
        with pytest.raises(domain.Unavailable, match="cannot be reached"):
            await client.job("x")


def test_statuses_that_are_not_ours_become_the_nearest_class() -> None:
    def arrived(code: grpc.StatusCode, trailing: tuple[tuple[str, bytes], ...] = ()) -> domain.FettleError:
        return errors.from_rpc_error(
            grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), details="from a proxy")
        )

    assert type(arrived(grpc.StatusCode.PERMISSION_DENIED)) is domain.Unauthenticated
    assert type(arrived(grpc.StatusCode.DEADLINE_EXCEEDED)) is domain.Unavailable
    assert type(arrived(grpc.StatusCode.UNKNOWN)) is domain.Internal
    garbage = (("grpc-status-details-bin", b"\xff\xff\xff"),)
    assert type(arrived(grpc.StatusCode.NOT_FOUND, garbage)) is domain.NotFound


@pytest.mark.parametrize("text", ["", "localhost", ":80", "host:", "host:x", "host:65536", "::1:80", "host:-1"])
def test_malformed_addresses_are_refused(text: str) -> None:
    with pytest.raises(domain.InvalidArgument, match="HOST:PORT"):
        Target(text)


def test_ipv6_addresses_are_written_in_brackets() -> None:
    assert Target("[::1]:80").address == "[::1]:80"


def test_token_is_not_shown() -> None:
    assert "secret" not in repr(Target("localhost:1", token="secret"))
