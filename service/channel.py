"""What both clients share: channel options, credentials, retries, request building."""

from __future__ import annotations

import hashlib
import json
import random
import uuid
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import attrs
import grpc

from fettle.backends.api import Artifact, MeasurePolicy
from fettle.graph import codec
from fettle.graph.errors import DataLoss, InvalidArgument, NotFound, Unavailable
from fettle.graph.workload import Workload
from fettle.service.address import Address
from fettle.service.convert.jobs import budget_to_proto, job_from_proto, workloads_to_proto
from fettle.service.convert.values import policy_to_proto
from fettle.store.values import Budget, Job
from fettle.v1 import kernels_pb2, tuning_pb2

MAX_MESSAGE = 64 * 1024 * 1024
SUBMIT_SECONDS = 120.0
"""Least deadline of a submission: importing a large graph takes a while."""

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

CHANNEL_OPTIONS: tuple[tuple[str, str | int], ...] = (
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
    token: str | None = attrs.field(default=None, repr=False)
    tls: bool = False
    tls_ca: Path | str | None = None

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Sent with every call."""
        return (("authorization", f"Bearer {self.token}"),) if self.token else ()

    def credentials(self) -> grpc.ChannelCredentials | None:
        """None for a channel without encryption. Raises NotFound if the certificate file cannot be read."""
        if self.tls_ca is None:
            return grpc.ssl_channel_credentials() if self.tls else None
        try:
            return grpc.ssl_channel_credentials(Path(self.tls_ca).read_bytes())
        except OSError as error:
            raise NotFound(f"certificate file {self.tls_ca} cannot be read: {error.strerror}") from error


@attrs.frozen
class Submission:
    """Answer to a submission.

    Attributes:
        job: the job that does the work.
        joined: identical work was already in flight.
        left_out: (name, reason) of the graph's nodes that stay with the default executor.
    """

    job: Job
    joined: bool
    left_out: tuple[tuple[str, str], ...] = ()


def submit_request(
    graph: bytes | None,
    workloads: Sequence[tuple[Workload, int]],
    device: str,
    *,
    trials: int,
    seconds: float | None,
    dims: Mapping[str, int] | None,
    seed: int,
    force: bool,
    policy: MeasurePolicy,
    title: str,
    objectives: Sequence[str],
) -> tuning_pb2.SubmitJobRequest:
    """The message of a submission, with a fresh request id.

    Raises:
        InvalidArgument: not exactly one of graph and workloads, or a number beyond 64 bits.
    """
    if (graph is None) == (not workloads):
        raise InvalidArgument("a submission needs either a graph or workloads")
    try:
        request = tuning_pb2.SubmitJobRequest(
            device=device,
            budget=budget_to_proto(Budget(trials, seconds)),
            policy=policy_to_proto(policy),
            seed=seed,
            force=force,
            title=title,
            objectives=objectives,
            request_id=uuid.uuid4().hex,
        )
        if graph is not None:
            request.graph.CopyFrom(tuning_pb2.Graph(onnx=graph, dims=dims))
        else:
            request.workloads.CopyFrom(tuning_pb2.WorkloadCounts(workloads=workloads_to_proto(tuple(workloads))))
    except (ValueError, TypeError) as error:
        raise InvalidArgument(f"the submission has a value the wire cannot carry: {error}") from error
    return request


def submission_from_proto(message: tuning_pb2.SubmitJobResponse) -> Submission:
    """The server's answer as a value."""
    left_out = tuple((node.name, node.reason) for node in message.unsupported)
    return Submission(job_from_proto(message.job), message.joined, left_out)


class ArtifactAssembler:
    """Puts the chunks of an artifact together and checks them."""

    def __init__(self, sha256: str) -> None:
        self._sha256 = sha256
        self._size = -1
        self._data = bytearray()

    def add(self, chunk: kernels_pb2.ArtifactChunk) -> None:
        """Raises DataLoss if there is more than was announced."""
        if chunk.WhichOneof("part") == "header":
            self._size = chunk.header.size
            return
        self._data += chunk.data
        if len(self._data) > self._size:
            raise self._damaged(f"more than the announced {self._size} bytes")

    def finish(self) -> Artifact:
        """Raises DataLoss unless the bytes have the hash asked for."""
        if len(self._data) != self._size:
            raise self._damaged(f"{len(self._data)} of {self._size} bytes")
        data = bytes(self._data)
        actual = hashlib.sha256(data).hexdigest()
        if actual != self._sha256:
            raise self._damaged(f"the bytes have the hash {actual}")
        return codec.loads(Artifact, data)

    def _damaged(self, what: str) -> DataLoss:
        return DataLoss(
            f"artifact {self._sha256} arrived damaged: {what}", hint="try again", details={"sha256": self._sha256}
        )


class Patience:
    """How long a watcher goes on reconnecting: exponential waits with jitter, until a limit without news.

    Args:
        limit: seconds without an event after which it gives up.
        first_limit: the same before the first event ever (the address is probably wrong).
    """

    def __init__(self, limit: float, first_limit: float = 5.0) -> None:
        self._limit = limit
        self._left = min(limit, first_limit)
        self._wait = 0.1

    def news(self) -> None:
        """An event came."""
        self._left, self._wait = self._limit, 0.1

    def next_wait(self, error: Unavailable) -> float:
        """Seconds to wait before the next attempt. Raises the error when patience is at its end."""
        if self._left <= 0:
            raise error
        wait = min(self._wait * random.uniform(0.8, 1.2), self._left)
        self._left -= wait
        self._wait = min(2 * self._wait, 5.0)
        return wait


def batches(workloads: Iterable[Workload], size: int = 1000) -> Iterable[list[str]]:
    """Workload texts in lists that one call can carry."""
    texts = [str(workload) for workload in workloads]
    return (texts[start : start + size] for start in range(0, len(texts), size))
