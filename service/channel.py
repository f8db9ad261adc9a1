"""How a client connects: channel options, retries, credentials."""

from __future__ import annotations

import json
import ssl
from pathlib import Path
from types import ModuleType
from typing import Any

import attrs
import grpc

from fettle.graph.errors import InvalidArgument, NotFound
from fettle.service.address import Address

MAX_MESSAGE = 64 * 1024 * 1024
"""Bytes of a message at most, at both ends."""

_RETRIED = {
    "TuningService": ("SubmitJob", "GetJob", "ListJobs", "ResumeJob"),
    "KernelService": ("Lookup", "BatchLookup", "ListKernels", "GetStats"),
}
"""Calls that may be sent twice; a submission carries a request id for that."""

_SERVICE_CONFIG = {
    "methodConfig": [
        {
            "name": [{"service": f"fettle.v1.{s}", "method": m} for s, methods in _RETRIED.items() for m in methods],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.2s",
                "maxBackoff": "2s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}

_OPTIONS: tuple[tuple[str, str | int], ...] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.service_config", json.dumps(_SERVICE_CONFIG)),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 200),  # a server that restarts is found again soon
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 2_000),
)


def _address(text: str) -> str:
    return str(Address.parse(text))


def _sendable(token: str | None) -> str | None:
    if token is not None and not (token.isascii() and token.isprintable()):  # it is not repeated: it is a secret
        raise InvalidArgument("the token has characters that cannot be sent", hint="tokens are printable ASCII")
    return token


@attrs.frozen
class Target:
    """Where and how a client connects.

    Attributes:
        address: ``HOST:PORT``.
        token: bearer token, if the server wants one.
        tls: encrypt, and check the server against the system's certificate authorities.
        tls_ca: encrypt, and check the server against this certificate file instead.
    """

    address: str = attrs.field(converter=_address)
    token: str | None = attrs.field(default=None, repr=False, converter=_sendable)
    tls: bool = False
    tls_ca: Path | str | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Sent with every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def channel(self, library: ModuleType) -> Any:
        """A channel that connects on first use, by ``grpc`` or ``grpc.aio``.

        Raises:
            NotFound: the certificate file cannot be read.
        """
        credentials = self._credentials()
        if credentials is None:
            return library.insecure_channel(self.address, _OPTIONS)
        return library.secure_channel(self.address, credentials, _OPTIONS)

    def _credentials(self) -> grpc.ChannelCredentials | None:
        """None for a channel without encryption."""
        if self.tls_ca is None:
            return grpc.ssl_channel_credentials() if self.tls else None
        try:
            trusted = Path(self.tls_ca).read_bytes()
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(self.tls_ca)
            return grpc.ssl_channel_credentials(trusted)
        except ssl.SSLError as error:  # gRPC would say that the server is away
            raise InvalidArgument(
                f"certificate file {self.tls_ca} cannot be used: {error}", hint="it takes certificates as PEM"
            ) from error
        except OSError as error:
            raise NotFound(f"certificate file {self.tls_ca} cannot be read: {error.strerror}") from error
