"""``HOST:PORT`` texts."""

from __future__ import annotations

import socket

import attrs

from fettle.graph.errors import InvalidArgument


@attrs.frozen
class Address:
    """Where a server listens or a client connects. An IPv6 host is written in brackets: ``[::1]:50151``."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Raises InvalidArgument unless the text is HOST:PORT with a port of 0 … 65535."""
        if not isinstance(text, str):  # Python callers pass anything
            raise InvalidArgument(f"an address is a text, HOST:PORT, not {type(text).__name__}")
        host, colon, port = text.rpartition(":")
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if not (colon and bare and port.isascii() and port.isdigit() and int(port) <= 65535) or (
            ":" in bare and bare == host
        ):
            raise InvalidArgument(
                f"{text!r} is not HOST:PORT", hint="example: 127.0.0.1:50151", details={"field": "address"}
            )
        return cls(bare, int(port))

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def why_not_bindable(self) -> str:
        """The system's reason why nothing can listen here, or empty if it can now."""
        try:
            for family, kind, protocol, _, where in socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM):
                with socket.socket(family, kind, protocol) as probe:
                    probe.bind(where)
        except OSError as error:
            return error.strerror or str(error)
        return ""
