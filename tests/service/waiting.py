"""Waiting for what other tasks and threads bring about."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fettle.service.async_client import AsyncClient
from fettle.store.jobs import JobEvent


async def eventually(condition: Callable[[], bool]) -> None:
    """Returns once the condition holds; it must within five seconds."""
    for _ in range(500):
        if condition():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it never came true")


async def collect(client: AsyncClient, job_id: str, after: int = 0) -> list[JobEvent]:
    """All events of a job behind a number, once it has ended."""
    return [event async for event in client.watch(job_id, after)]
