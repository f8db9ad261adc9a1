"""Around every call: authentication, decoding, one place where errors become statuses, one log line."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeAlias

import grpc
import structlog
from google.protobuf.message import DecodeError

from fettle.graph.errors import FettleError, Internal, InvalidArgument, ResourceExhausted, Unauthenticated
from fettle.service import errors
from fettle.service.tokens import Tokens

_OWN = "/fettle.v1."
_HEALTH = "/grpc.health.v1.Health/"

log = structlog.get_logger("fettle.service.rpc")

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Handler: TypeAlias = "Callable[[Any, Context], Awaitable[Any]]"
_MethodHandler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Health checks pass untouched (load balancers have no tokens); all else needs a token if there are any."""

    def __init__(self, tokens: Tokens | None = None) -> None:
        self._tokens = tokens

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[_MethodHandler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> _MethodHandler | None:
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None or method.startswith(_HEALTH):
            return handler
        if self._tokens is not None:
            try:
                self._tokens.check(handler_call_details.invocation_metadata)
            except Unauthenticated as error:
                log.warning("rpc", method=method, status="UNAUTHENTICATED")
                return _refusing(handler, error)
        return _guarded(method, handler) if method.startswith(_OWN) else handler


def _refusing(handler: Any, error: FettleError) -> _MethodHandler:
    """A handler of the same kind that answers every call with the error."""

    async def refuse(request: Any, context: Context) -> None:
        await context.abort_with_status(errors.to_status(error))

    kinds: dict[tuple[bool, bool], Callable[..., _MethodHandler]] = {
        (False, False): grpc.unary_unary_rpc_method_handler,
        (False, True): grpc.unary_stream_rpc_method_handler,
        (True, False): grpc.stream_unary_rpc_method_handler,
        (True, True): grpc.stream_stream_rpc_method_handler,
    }
    return kinds[handler.request_streaming, handler.response_streaming](refuse)


def _guarded(method: str, handler: Any) -> _MethodHandler:
    """Our handlers take one message; they return the answer, or write a stream of answers to the context."""
    inner: Handler = handler.unary_stream if handler.response_streaming else handler.unary_unary
    decode: Callable[[bytes], Any] = handler.request_deserializer

    async def call(raw: bytes, context: Context) -> Any:
        started = time.perf_counter()
        status = "OK"
        try:
            with _domain_errors(method):
                return await inner(_decoded(decode, raw), context)
        except FettleError as error:
            status = errors.reason(error)
            await context.abort_with_status(errors.to_status(error))
        except asyncio.CancelledError:
            status = "CANCELLED"
            raise
        finally:
            seconds = round(time.perf_counter() - started, 6)
            log.info("rpc", method=method, status=status, seconds=seconds, peer=context.peer())

    make = grpc.unary_stream_rpc_method_handler if handler.response_streaming else grpc.unary_unary_rpc_method_handler
    return make(call, None, handler.response_serializer)


@contextlib.contextmanager
def _domain_errors(method: str) -> Iterator[None]:
    """What is raised inside leaves as an error of the tree; a defect is logged, and told without its details."""
    try:
        yield
    except (FettleError, asyncio.CancelledError):
        raise
    except MemoryError as error:
        raise ResourceExhausted("the server has not enough memory for this call") from error
    except Exception as error:
        incident = uuid.uuid4().hex[:12]
        log.error("defect", method=method, incident=incident, exc_info=error)
        raise Internal(
            "the server met a defect of its own", hint="its log has more", details={"incident": incident}
        ) from error


def _decoded(decode: Callable[[bytes], Any], raw: bytes) -> Any:
    """Decoding happens here and not in gRPC, which would answer malformed bytes with an internal error."""
    try:
        return decode(raw)
    except DecodeError as error:
        raise InvalidArgument(f"the request is not a valid message: {error}") from error
