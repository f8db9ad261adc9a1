"""The client for asyncio: the methods of :class:`fettle.service.client.Client`, awaited.

Arguments and errors are described there.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import TypeVar, Unpack

import grpc

from fettle.backends.api import Artifact, Device
from fettle.graph.workload import Workload
from fettle.service.calls import Call, Calls, Submission, SubmitOptions
from fettle.service.channel import Target
from fettle.service.errors import from_rpc_error
from fettle.service.streams import ArtifactAssembler, Watch
from fettle.store.api import Stats
from fettle.store.jobs import Job, JobEvent, JobState
from fettle.store.kernels import Kernel
from fettle.store.lookup import LookupResult

T = TypeVar("T")


class AsyncClient:
    """A connection to a server; for one event loop. Use with ``async with``, or call :meth:`close`."""

    def __init__(self, target: Target, timeout: float = 30.0) -> None:
        self._channel = target.channel(grpc.aio)
        self._calls = Calls(self._channel)
        self._metadata = target.metadata
        self._timeout = timeout

    async def submit(
        self,
        graph: bytes | None = None,
        workloads: Sequence[tuple[Workload, int]] = (),
        **options: Unpack[SubmitOptions],
    ) -> Job:
        """See :meth:`Client.submit <fettle.service.client.Client.submit>`."""
        return (await self.submission(graph, workloads, **options)).job

    async def submission(
        self,
        graph: bytes | None = None,
        workloads: Sequence[tuple[Workload, int]] = (),
        **options: Unpack[SubmitOptions],
    ) -> Submission:
        """Like :meth:`submit`; also tells whether identical work was joined, and which nodes were left out."""
        return await self._call(self._calls.submission(graph, workloads, **options))

    async def job(self, job_id: str) -> Job:
        """Raises NotFound."""
        return await self._call(self._calls.job(job_id))

    async def jobs(self, states: Sequence[JobState] = (), page_size: int = 50) -> AsyncIterator[Job]:
        """All jobs, newest first; pages are fetched as they are needed."""
        token = ""
        while True:
            page = await self._call(self._calls.page(states, page_size, token))
            for job in page.jobs:
                yield job
            token = page.next_token
            if not token:
                return

    async def watch(self, job_id: str, after: int = 0, *, patience: float = 60.0) -> AsyncGenerator[JobEvent, None]:
        """Events numbered above ``after`` until the job is final, each once, across lost connections."""
        watch = Watch(job_id, after, patience, self._calls.reached)
        while True:
            call = self._calls.tuning.WatchJob(watch.request(), metadata=self._metadata)
            try:
                async for message in call:
                    yield watch.take(message)
                return
            except grpc.RpcError as error:
                wait = watch.seconds_to_reconnect(error)
            finally:
                call.cancel()
            await asyncio.sleep(wait)

    async def wait(self, job_id: str, *, patience: float = 60.0) -> Job:
        """The job, once it is final."""
        async with aclosing(self.watch(job_id, patience=patience)) as events:
            async for _ in events:
                pass
        return await self.job(job_id)

    async def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; it keeps the best kernels found so far. Raises NotFound, Conflict."""
        return await self._call(self._calls.cancel(job_id))

    async def resume(self, job_id: str) -> Job:
        """Queue a paused job again. Raises NotFound, Conflict."""
        return await self._call(self._calls.resume(job_id))

    async def lookup(self, workload: Workload, device: Device | str = "cpu", *, mode: str = "hot") -> LookupResult:
        """The cached kernel of a workload, or why there is none."""
        return await self._call(self._calls.lookup(workload, device, mode))

    async def batch_lookup(
        self, workloads: Sequence[Workload], device: Device | str = "cpu", *, mode: str = "hot"
    ) -> tuple[LookupResult, ...]:
        """:meth:`lookup` for many workloads, in their order."""
        results: list[LookupResult] = []
        for call in self._calls.batch_lookups(workloads, device, mode):
            found = await self._call(call)
            results += found
        return tuple(results)

    async def artifact(self, sha256: str) -> Artifact:
        """Fetch an artifact and check its hash. Raises NotFound, DataLoss."""
        assembler = ArtifactAssembler(sha256)
        call = self._calls.kernels.GetArtifact(assembler.request(), metadata=self._metadata)
        try:
            async for chunk in call:
                assembler.add(chunk)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()
        return assembler.finish()

    async def kernels(
        self, device: Device | str | None = None, operator: str = "", limit: int = 1000
    ) -> tuple[Kernel, ...]:
        """Cached kernels, newest first."""
        return await self._call(self._calls.cached(device, operator, limit))

    async def stats(self) -> Stats:
        """Counts of what the server's store has."""
        return await self._call(self._calls.stats())

    async def close(self) -> None:
        """Close the connection; watches in progress end with Cancelled."""
        await self._channel.close()

    async def __aenter__(self) -> AsyncClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _call(self, call: Call[T]) -> T:
        timeout = max(self._timeout, call.least_seconds)
        try:
            answer = await call.method(call.request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        self._calls.reached = True
        return call.read(answer)


def connect_async(
    address: str,
    *,
    token: str | None = None,
    tls: bool = False,
    tls_ca: Path | str | None = None,
    timeout: float = 30.0,
) -> AsyncClient:
    """An asyncio client; see :func:`fettle.service.client.connect`."""
    return AsyncClient(Target(address, token, tls, tls_ca), timeout)
