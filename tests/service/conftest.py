"""A server in this process, on a store in memory."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from fettle.service.async_client import AsyncClient, connect_async
from fettle.service.server import Server, ServerOptions
from fettle.store.api import Store
from fettle.store.memory import MemoryStore
from tests.service.paper import Steps, resolve_paper


@pytest.fixture
def store() -> Iterator[Store]:
    with MemoryStore() as opened:
        yield opened


@pytest.fixture
def steps() -> Steps:
    return Steps()


@pytest_asyncio.fixture
async def server(store: Store, steps: Steps) -> AsyncIterator[Server]:
    options = ServerOptions("127.0.0.1:0", grace=1.0, pause_grace=5.0)
    async with Server(store, steps, resolve=resolve_paper, options=options, poll=0.2) as running:
        yield running


@pytest_asyncio.fixture
async def client(server: Server) -> AsyncIterator[AsyncClient]:
    async with connect_async(str(server.address)) as connected:
        yield connected
