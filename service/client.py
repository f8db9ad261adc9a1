"""The Python client of a fettle server: domain values in and out, errors of the same classes as in process.

Every method raises the errors of :mod:`fettle.graph.errors` that the server raised, with message, hint and details;
Unavailable when the server cannot be reached or does not answer in time.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import TypeVar, Unpack

import grpc

from fettle.backends.api import Artifact, Device
from fettle.graph.workload import Workload
from fettle.service.async_client import AsyncClient, connect_async
from fettle.service.calls import Call, Calls, Submission, SubmitOptions
from fettle.service.channel import Target
from fettle.service.errors import from_rpc_error
from fettle.service.streams import ArtifactAssembler, Watch
from fettle.store.api import Stats
from fettle.store.jobs import Job, JobEvent, JobState
from fettle.store.kernels import Kernel
from fettle.store.lookup import LookupResult

__all__ = ["AsyncClient", "Client", "Submission", "connect", "connect_async"]

T = TypeVar("T")


class Client:
    """A connection to a server; safe to share between threads. Use as a context manager, or call :meth:`close`."""

    def __init__(self, target: Target, timeout: float = 30.0) -> None:
        """Connects on first use.

        Args:
            target: where and how.
            timeout: deadline of a call in seconds; watching and fetching artifacts have none.
        """
        self._channel = target.channel(grpc)
        self._calls = Calls(self._channel)
        self._metadata = target.metadata
        self._timeout = timeout

    def submit(
        self,
        graph: bytes | None = None,
        workloads: Sequence[tuple[Workload, int]] = (),
        **options: Unpack[SubmitOptions],
    ) -> Job:
        """Queue tuning work; see :meth:`submission` for what else the server answers.

        Args:
            graph: bytes of an ONNX model, weights may be stripped; or
            workloads: workloads with how often each occurs.
            options: :class:`~fettle.service.calls.SubmitOptions`: device, trials, seconds, objectives …

        Raises:
            InvalidArgument (and subclasses), Unsupported: the request is refused.
        """
        return self.submission(graph, workloads, **options).job

    def submission(
        self,
        graph: bytes | None = None,
        workloads: Sequence[tuple[Workload, int]] = (),
        **options: Unpack[SubmitOptions],
    ) -> Submission:
        """Like :meth:`submit`; also tells whether identical work was joined, and which nodes were left out."""
        return self._call(self._calls.submission(graph, workloads, **options))

    def job(self, job_id: str) -> Job:
        """Raises NotFound."""
        return self._call(self._calls.job(job_id))

    def jobs(self, states: Sequence[JobState] = (), page_size: int = 50) -> Iterator[Job]:
        """All jobs, newest first; pages are fetched as they are needed."""
        token = ""
        while True:
            page = self._call(self._calls.page(states, page_size, token))
            yield from page.jobs
            token = page.next_token
            if not token:
                return

    def watch(self, job_id: str, after: int = 0, *, patience: float = 60.0) -> Generator[JobEvent, None, None]:
        """Events numbered above ``after`` until the job is final, each once.

        A lost connection or a server that restarts is met by connecting again after the last event seen.

        Args:
            job_id: the job.
            after: number of the last event already known.
            patience: seconds without any event for which a server that is away is waited for; 5 at most before the
                first, if no call of this client was answered yet and ``after`` is 0.

        Raises:
            NotFound: no such job.
            Unavailable: the server stayed away.
        """
        watch = Watch(job_id, after, patience, self._calls.reached)
        while True:
            call = self._calls.tuning.WatchJob(watch.request(), metadata=self._metadata)
            try:
                for message in call:
                    yield watch.take(message)
                return
            except grpc.RpcError as error:
                wait = watch.seconds_to_reconnect(error)
            finally:
                call.cancel()
            time.sleep(wait)

    def wait(self, job_id: str, *, patience: float = 60.0) -> Job:
        """The job, once it is final."""
        with closing(self.watch(job_id, patience=patience)) as events:
            for _ in events:
                pass
        return self.job(job_id)

    def cancel(self, job_id: str) -> Job:
        """Ask a job to stop; it keeps the best kernels found so far. Raises NotFound, Conflict."""
        return self._call(self._calls.cancel(job_id))

    def resume(self, job_id: str) -> Job:
        """Queue a paused job again. Raises NotFound, Conflict."""
        return self._call(self._calls.resume(job_id))

    def lookup(self, workload: Workload, device: Device | str = "cpu", *, mode: str = "hot") -> LookupResult:
        """The cached kernel of a workload, or why there is none.

        Args:
            workload: what to compute.
            device: a device text, resolved on the server's machine, or a full identity.
            mode: ``hot`` or ``cold``.
        """
        return self._call(self._calls.lookup(workload, device, mode))

    def batch_lookup(
        self, workloads: Sequence[Workload], device: Device | str = "cpu", *, mode: str = "hot"
    ) -> tuple[LookupResult, ...]:
        """:meth:`lookup` for many workloads, in their order."""
        results: list[LookupResult] = []
        for call in self._calls.batch_lookups(workloads, device, mode):
            found = self._call(call)
            results += found
        return tuple(results)

    def artifact(self, sha256: str) -> Artifact:
        """Fetch an artifact and check its hash. Raises NotFound, DataLoss."""
        assembler = ArtifactAssembler(sha256)
        call = self._calls.kernels.GetArtifact(assembler.request(), metadata=self._metadata)
        try:
            for chunk in call:
                assembler.add(chunk)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        finally:
            call.cancel()
        return assembler.finish()

    def kernels(self, device: Device | str | None = None, operator: str = "", limit: int = 1000) -> tuple[Kernel, ...]:
        """Cached kernels, newest first."""
        return self._call(self._calls.cached(device, operator, limit))

    def stats(self) -> Stats:
        """Counts of what the server's store has."""
        return self._call(self._calls.stats())

    def close(self) -> None:
        """Close the connection; watches in progress end with Cancelled."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, call: Call[T]) -> T:
        timeout = max(self._timeout, call.least_seconds)
        try:
            answer = call.method(call.request, timeout=timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error
        self._calls.reached = True
        return call.read(answer)


def connect(
    address: str,
    *,
    token: str | None = None,
    tls: bool = False,
    tls_ca: Path | str | None = None,
    timeout: float = 30.0,
) -> Client:
    """A client of the server at ``HOST:PORT``; connects on first use.

    Args:
        address: ``HOST:PORT``.
        token: bearer token, if the server wants one.
        tls: encrypt, and check the server against the system's certificate authorities.
        tls_ca: encrypt, and check the server against this certificate file instead.
        timeout: deadline of a call in seconds.

    Raises:
        InvalidArgument: malformed address, or a file without a certificate.
        NotFound: the certificate file cannot be read.
    """
    return Client(Target(address, token, tls, tls_ca), timeout)
