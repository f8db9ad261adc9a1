"""Messages that no method of a client would send."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from fettle.service.async_client import AsyncClient
from fettle.service.calls import Call


async def send(client: AsyncClient, method: Callable[..., Any], request: Any) -> Any:
    """The server's answer to a message, or the domain error it stands for."""
    return await client._call(Call(method, request, read=lambda message: message))
