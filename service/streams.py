"""Answers that come in pieces, for both clients: following a job across lost connections, and fetching artifacts."""

from __future__ import annotations

import hashlib
import random

import grpc

from fettle.backends.api import Artifact
from fettle.graph import codec
from fettle.graph.errors import DataLoss, Unavailable
from fettle.service.convert.events import event_from_proto
from fettle.service.errors import from_rpc_error
from fettle.store.jobs import JobEvent
from fettle.v1 import kernels_pb2, tuning_pb2


class Watch:
    """Where a watcher of a job is, and how long it goes on reconnecting.

    Args:
        job_id: the job.
        after: number of the last event already known.
        patience: seconds without an event after which it gives up.
        reached: the server is known to be there. Else, and without ``after``, it gives up after 5 seconds at most
            before the first event: the address is probably wrong.
    """

    def __init__(self, job_id: str, after: int, patience: float, reached: bool = False) -> None:
        self._job_id = job_id
        self._after = after
        self._patience = Patience(patience, patience if reached or after else 5.0)

    def request(self) -> tuning_pb2.WatchJobRequest:
        """Everything behind the last event taken."""
        return tuning_pb2.WatchJobRequest(job_id=self._job_id, after_event=self._after)

    def take(self, message: tuning_pb2.JobEvent) -> JobEvent:
        """The event of a message."""
        self._after = message.number
        self._patience.news()
        return event_from_proto(message)

    def seconds_to_reconnect(self, error: grpc.RpcError) -> float:
        """How long to wait before asking again.

        Raises:
            FettleError: what the error stands for, unless it is that the server is away and patience is left.
        """
        problem = from_rpc_error(error)
        if not isinstance(problem, Unavailable):
            raise problem from error
        return self._patience.next_wait(problem)


class Patience:
    """Exponential waits with jitter, until a limit without news.

    Args:
        limit: seconds without an event after which it ends.
        first_limit: the same before the first event, if it is less.
    """

    def __init__(self, limit: float, first_limit: float) -> None:
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


class ArtifactAssembler:
    """Puts the chunks of an artifact together and checks them."""

    def __init__(self, sha256: str) -> None:
        self._sha256 = sha256
        self._size = -1
        self._data = bytearray()

    def request(self) -> kernels_pb2.GetArtifactRequest:
        return kernels_pb2.GetArtifactRequest(sha256=self._sha256)

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
