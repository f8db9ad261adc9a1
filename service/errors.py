"""Domain errors to gRPC statuses and back: the one table, and the rich details both sides read.

A status carries ``google.rpc.ErrorInfo`` (domain :data:`DOMAIN`, reason = error class, metadata = details and hint)
and, where a field of the request is at fault, ``google.rpc.BadRequest``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import grpc
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from fettle.graph import errors

DOMAIN = "fettle.v1"
_DETAILS = "grpc-status-details-bin"
_HINT = "hint"

STATUS: dict[type[errors.FettleError], grpc.StatusCode] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidWorkload: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidGraph: grpc.StatusCode.INVALID_ARGUMENT,
    errors.InvalidDevice: grpc.StatusCode.INVALID_ARGUMENT,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.Conflict: grpc.StatusCode.FAILED_PRECONDITION,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.StoreUnavailable: grpc.StatusCode.UNAVAILABLE,
    errors.StoreFull: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    errors.DataLoss: grpc.StatusCode.DATA_LOSS,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.BuildFailure: grpc.StatusCode.ABORTED,
    errors.Internal: grpc.StatusCode.INTERNAL,
}
"""Status code of every class of the error tree."""

_BY_REASON = {re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper(): cls for cls in STATUS}
_REASONS = {cls: reason for reason, cls in _BY_REASON.items()}

_BY_CODE: dict[grpc.StatusCode, type[errors.FettleError]] = {
    # statuses that gRPC itself or a proxy produces, without our details
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgument,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.Conflict,
    grpc.StatusCode.FAILED_PRECONDITION: errors.Conflict,
    grpc.StatusCode.ABORTED: errors.Conflict,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhausted,
    grpc.StatusCode.UNAVAILABLE: errors.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.Unavailable,
    grpc.StatusCode.UNAUTHENTICATED: errors.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: errors.Unauthenticated,
    grpc.StatusCode.DATA_LOSS: errors.DataLoss,
    grpc.StatusCode.CANCELLED: errors.Cancelled,
}

_CONNECTION_HINTS = (
    ("CERTIFICATE_VERIFY_FAILED", "the certificates of --tls-ca do not vouch for the server's"),
    ("Hostname Verification Check failed", "the server's certificate is for another name than that of --server"),
    ("WRONG_VERSION_NUMBER", "a server without TLS? leave --tls-ca out"),
    ("Socket closed", "a server with TLS? give its certificate with --tls-ca"),
)
"""What gRPC's messages about connections come from, by a part of theirs that says so."""

_FIELD: dict[type[errors.FettleError], str] = {
    errors.InvalidWorkload: "workload",
    errors.InvalidGraph: "graph",
    errors.InvalidDevice: "device",
}

# The details travel as HTTP/2 headers, which gRPC refuses above 8 KiB; the message is in there up to three times.
_MESSAGE_BYTES, _HINT_BYTES, _DETAIL_BYTES = 1024, 256, 1024


def _cut(text: str, limit: int) -> str:
    raw = text.encode(errors="replace")
    return raw.decode() if len(raw) <= limit else raw[: limit - 3].decode(errors="ignore") + "…"


def error_class(error: errors.FettleError) -> type[errors.FettleError]:
    """The nearest class of the table: a plugin may raise its own subclass."""
    return next((cls for cls in type(error).__mro__ if cls in STATUS), errors.Internal)


def reason(error: errors.FettleError) -> str:
    """The error's class as ErrorInfo spells it: INVALID_WORKLOAD."""
    return _REASONS[error_class(error)]


def to_status(error: errors.FettleError) -> grpc.Status:
    """The status to abort a call with; long texts are cut to what headers can carry."""
    cls = error_class(error)
    message = _cut(error.message, _MESSAGE_BYTES)
    info = error_details_pb2.ErrorInfo(reason=_REASONS[cls], domain=DOMAIN)
    room = _DETAIL_BYTES
    for name, value in error.details.items():
        room -= len(name) + len(value.encode(errors="replace"))
        if room < 0:
            break
        info.metadata[_cut(name, _DETAIL_BYTES)] = _cut(value, _DETAIL_BYTES)
    if error.hint:
        info.metadata[_HINT] = _cut(error.hint, _HINT_BYTES)
    details = [info]
    field = error.details.get("field") or _FIELD.get(cls)
    if field and issubclass(cls, errors.InvalidArgument):
        violation = error_details_pb2.BadRequest.FieldViolation(field=_cut(field, 128), description=_cut(message, 256))
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    status = status_pb2.Status(code=STATUS[cls].value[0], message=message)
    for detail in details:
        packed = any_pb2.Any()
        packed.Pack(detail)
        status.details.append(packed)
    result: grpc.Status = rpc_status.to_status(status)
    return result


def from_rpc_error(error: grpc.RpcError) -> errors.FettleError:
    """The domain error a failed call stands for: by its ErrorInfo, else by its status code."""
    if not isinstance(error, grpc.Call | grpc.aio.AioRpcError):
        return errors.Internal(f"the call failed: {error}")
    code, message = error.code(), error.details() or ""
    info = _error_info(error.trailing_metadata() or ())
    if info is not None:
        details = {str(name): str(value) for name, value in info.metadata.items()}
        hint = details.pop(_HINT, "")
        return _BY_REASON[info.reason](message, hint=hint, details=details)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return errors.Unavailable("the server did not answer in time", hint="raise the client's timeout, or try again")
    if code is grpc.StatusCode.UNAVAILABLE:
        hints = (hint for sign, hint in _CONNECTION_HINTS if sign in message)
        return errors.Unavailable(
            f"the server cannot be reached: {message}", hint=next(hints, "is `fettle serve` running at that address?")
        )
    return _BY_CODE.get(code, errors.Internal)(message or code.name)


def _error_info(metadata: Iterable[tuple[str, str | bytes]]) -> error_details_pb2.ErrorInfo | None:
    """Our ErrorInfo among the trailing metadata, or None if there is none this version understands."""
    for name, value in metadata:
        if name != _DETAILS or not isinstance(value, bytes):
            continue
        info = error_details_pb2.ErrorInfo()
        try:
            for detail in status_pb2.Status.FromString(value).details:
                if detail.Unpack(info) and info.domain == DOMAIN and info.reason in _BY_REASON:
                    return info
        except DecodeError:
            return None
    return None
