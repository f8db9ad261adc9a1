"""The Python client of a fettle server: domain values in and out, errors of the same classes as in process.

Every method raises the errors of :mod:`fettle.graph.errors` that the server raised, with message, hint and details;
Unavailable when the server cannot be reached or does not answer in time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any

import grpc

from fettle.backends.api import Artifact, Device, MeasurePolicy
from fettle.graph.errors import Unavailable
from fettle.graph.workload import Workload
from fettle.service.async_client import AsyncClient, connect_async
from fettle.service.channel import (
    CHANNEL_OPTIONS,
    SUBMIT_SECONDS,
    ArtifactAssembler,
    Patience,
    Submission,
    Target,
    batches,
    submission_from_proto,
    submit_request,
)
from fettle.service.convert.events import event_from_proto
from fettle.service.convert.jobs import job_from_proto, state_to_proto
from fettle.service.convert.kernels import kernel_from_proto, lookup_from_proto, stats_from_proto
from fettle.service.convert.values import mode_to_proto, selector_to_proto
from fettle.service.errors import from_rpc_error
from fettle.store.api import Stats
from fettle.store.lookup import LookupResult
from fettle.store.values import Job, JobEvent, JobState, Kernel
from fettle.v1 import kernels_pb2, kernels_pb2_grpc, tuning_pb2, tuning_pb2_grpc

__all__ = ["AsyncClient", "Client", "Submission", "connect", "connect_async"]


class Client:
    """A connection to a server; safe to share between threads. Use as a context manager, or call :meth:`close`."""

    def __init__(self, target: Target, timeout: float = 30.0) -> None:
        """Connects on first use.

        Args:
            target: where and how.
            timeout: deadline of a call in seconds; watching and fetching artifacts have none.
        """
        credentials = target.credentials()
        if credentials is None:
            self._channel = grpc.insecure_channel(target.address, CHANNEL_OPTIONS)
        else:
            self._channel = grpc.secure_channel(target.address, credentials, CHANNEL_OPTIONS)
        self._tuning: Any = tuning_pb2_grpc.TuningServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._kernels: Any = kernels_pb2_grpc.KernelServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._metadata = target.metadata
        self._timeout = timeout

    def submit(
        self,
        graph: bytes | None = None,
        workloads: Sequence[tuple[Workload, int]] = (),
        *,
        device: str = "cpu",
        trials: int = 64,
        seconds: float | None = None,
        dims: Mapping[str, int] | None = None,
        seed: int = 0,
        force: bool = False,
        mode: str = "hot",
        policy: MeasurePolicy | None = None,
        title: str = "",
        objectives: Sequence[str] = ("latency",),
    ) -> Job:
        """Queue tuning work; see :meth:`submission` for what else the server answers.

        Args:
            graph: bytes of an ONNX model, weights may be stripped; or
            workloads: workloads with how often each occurs.
            device: device text, resolved on the server's machine.
            trials: mean number of trials per distinct workload.
            seconds: wall-clock limit of the job.
            dims: values of the model's symbolic dimensions.
            seed: everything random follows from it.
            force: tune even what the cache has.
            mode: ``hot`` or ``cold``; ignored if there is a ``policy``.
            policy: how kernels are timed.
            title: shown to people.
            objectives: of ``latency``, ``energy`` and ``size``; with several, results have Pareto fronts.

        Raises:
            InvalidArgument (and subclasses), Unsupported: the request is refused.
        """
        return self.submission(
            graph,
            workloads,
            device=device,
            trials=trials,
            seconds=seconds,
            dims=dims,
            seed=seed,
            force=force,
            policy=policy or MeasurePolicy(mode=mode),
            title=title,
            objectives=objectives,
        ).job

    def submission(
        self,
        graph: bytes | None = None,
        workloads: Sequence[tuple[Workload, int]] = (),
        *,
        device: str = "cpu",
        trials: int = 64,
        seconds: float | None = None,
        dims: Mapping[str, int] | None = None,
        seed: int = 0,
        force: bool = False,
        policy: MeasurePolicy | None = None,
        title: str = "",
        objectives: Sequence[str] = ("latency",),
    ) -> Submission:
        """Like :meth:`submit`; also tells whether identical work was joined, and which nodes were left out."""
        request = submit_request(
            graph,
            workloads,
            device,
            trials=trials,
            seconds=seconds,
            dims=dims,
            seed=seed,
            force=force,
            policy=policy or MeasurePolicy(),
            title=title,
            objectives=objectives,
        )
        timeout = max(self._timeout, SUBMIT_SECONDS)
        return submission_from_proto(self._call(self._tuning.SubmitJob, request, timeout))

    def job(self, job_id: str) -> Job:
        """Raises NotFound."""
        return job_from_proto(self._call(self._tuning.GetJob, tuning_pb2.GetJobRequest(job_id=job_id)))

    def jobs(self, states: Sequence[JobState] = (), page_size: int = 50) -> Iterator[Job]:
        """All jobs, newest first; pages are fetched as they are needed."""
        token = ""
        while True:
            request = tuning_pb2.ListJobsRequest(
                page_size=page_size, page_token=token, states=[state_to_proto(state) for state in states]
            )
            page = self._call(self._tuning.ListJobs, request)
            yield from map(job_from_proto, page.jobs)
            token = page.next_page_token
            if not token:
                return

    def watch(self, job_id: str, after: int = 0, *, patience: float = 60.0) -> Generator[JobEvent, None, None]:
        """Events numbered above ``after`` until the job is final, each once.

        A lost connection or a server that restarts is met by connecting again after the last event seen.

        Args:
            job_id: the job.
            after: number of the last event already known.
            patience: seconds without any event for which a server that is away is waited for (5 before the first).

        Raises:
            NotFound: no such job.
            Unavailable: the server stayed away.
        """
        waiting = Patience(patience)
        while True:
            request = tuning_pb2.WatchJobRequest(job_id=job_id, after_event=after)
            call = self._tuning.WatchJob(request, metadata=self._metadata)
            try:
                for message in call:
                    after = message.number
                    waiting.news()
                    yield event_from_proto(message)
                return
            except grpc.RpcError as error:
                problem = from_rpc_error(error)
                if not isinstance(problem, Unavailable):
                    raise problem from error
                wait = waiting.next_wait(problem)
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
        return job_from_proto(self._call(self._tuning.CancelJob, tuning_pb2.CancelJobRequest(job_id=job_id)))

    def resume(self, job_id: str) -> Job:
        """Queue a paused job again. Raises NotFound, Conflict."""
        return job_from_proto(self._call(self._tuning.ResumeJob, tuning_pb2.ResumeJobRequest(job_id=job_id)))

    def lookup(self, workload: Workload, device: Device | str = "cpu", *, mode: str = "hot") -> LookupResult:
        """The cached kernel of a workload, or why there is none.

        Args:
            workload: what to compute.
            device: a device text, resolved on the server's machine, or a full identity.
            mode: ``hot`` or ``cold``.
        """
        request = kernels_pb2.LookupRequest(
            workload=str(workload), device=selector_to_proto(device), mode=mode_to_proto(mode)
        )
        return lookup_from_proto(self._call(self._kernels.Lookup, request))

    def batch_lookup(
        self, workloads: Sequence[Workload], device: Device | str = "cpu", *, mode: str = "hot"
    ) -> tuple[LookupResult, ...]:
        """:meth:`lookup` for many workloads, in their order."""
        results: list[LookupResult] = []
        for texts in batches(workloads):
            request = kernels_pb2.BatchLookupRequest(
                workloads=texts, device=selector_to_proto(device), mode=mode_to_proto(mode)
            )
            results += map(lookup_from_proto, self._call(self._kernels.BatchLookup, request).results)
        return tuple(results)

    def artifact(self, sha256: str) -> Artifact:
        """Fetch an artifact and check its hash. Raises NotFound, DataLoss."""
        assembler = ArtifactAssembler(sha256)
        call = self._kernels.GetArtifact(kernels_pb2.GetArtifactRequest(sha256=sha256), metadata=self._metadata)
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
        request = kernels_pb2.ListKernelsRequest(operator=operator, limit=limit)
        if device is not None:
            request.device.CopyFrom(selector_to_proto(device))
        return tuple(map(kernel_from_proto, self._call(self._kernels.ListKernels, request).kernels))

    def stats(self) -> Stats:
        """Counts of what the server's store has."""
        return stats_from_proto(self._call(self._kernels.GetStats, kernels_pb2.GetStatsRequest()))

    def close(self) -> None:
        """Close the connection; watches in progress end with Cancelled."""
        self._channel.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _call(self, method: Callable[..., Any], request: Any, timeout: float | None = None) -> Any:
        try:
            return method(request, timeout=timeout or self._timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise from_rpc_error(error) from error


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
        InvalidArgument: malformed address.
        NotFound: the certificate file cannot be read.
    """
    return Client(Target(address, token, tls, tls_ca), timeout)
