"""Jobs over the wire."""

from __future__ import annotations

import asyncio

from fettle.service.async_client import AsyncClient
from fettle.service.server import Server
from fettle.store.values import JobState


async def test_smoke(server: Server, client: AsyncClient, matmul=None) -> None:
    from fettle.graph.workload import Workload

    w = Workload.of("matmul", m=1, n=64, k=64, act="f32", weight="u4:32")
    job = await client.submit(workloads=[(w, 2)], device="paper")
    events = [event async for event in client.watch(job.id)]
    print(events)
    assert (await client.job(job.id)).state is JobState.DONE
