"""KernelService: what deployments read."""

from __future__ import annotations

import asyncio
import re

import grpc

from fettle.backends.api import Device
from fettle.graph import codec
from fettle.graph.errors import DataLoss, InvalidArgument
from fettle.graph.workload import Workload
from fettle.service.convert.kernels import kernel_to_proto, lookup_to_proto, stats_to_proto
from fettle.service.convert.values import mode_from_proto, selector_from_proto
from fettle.service.devices import RecentDevices
from fettle.service.tuning import Resolve
from fettle.store.api import Store
from fettle.store.lookup import LookupResult, lookup_all
from fettle.v1 import common_pb2, kernels_pb2_grpc
from fettle.v1 import kernels_pb2 as pb

CHUNK = 64 * 1024
MAX_BATCH = 1000
MAX_KERNELS = 10_000
_DEFAULT_KERNELS = 1000
_SHA256 = re.compile("[0-9a-f]{64}")


class KernelServicer(kernels_pb2_grpc.KernelServiceServicer):
    """Errors raised here become statuses in :mod:`fettle.service.interceptor`."""

    def __init__(self, store: Store, resolve: Resolve) -> None:
        self._store = store
        self._devices = RecentDevices(resolve)

    async def Lookup(  # noqa: N802
        self, request: pb.LookupRequest, context: grpc.aio.ServicerContext[pb.LookupRequest, pb.LookupResponse]
    ) -> pb.LookupResponse:
        """One workload; a miss is an answer, not an error."""
        results = await asyncio.to_thread(self._lookup, [request.workload], request.device, request.mode)
        return lookup_to_proto(results[0])

    async def BatchLookup(  # noqa: N802
        self,
        request: pb.BatchLookupRequest,
        context: grpc.aio.ServicerContext[pb.BatchLookupRequest, pb.BatchLookupResponse],
    ) -> pb.BatchLookupResponse:
        """Many workloads for one device, in their order."""
        if len(request.workloads) > MAX_BATCH:
            raise InvalidArgument(
                f"{len(request.workloads)} workloads in a batch; at most {MAX_BATCH}", details={"field": "workloads"}
            )
        results = await asyncio.to_thread(self._lookup, list(request.workloads), request.device, request.mode)
        return pb.BatchLookupResponse(results=[lookup_to_proto(result) for result in results])

    async def GetArtifact(  # noqa: N802
        self, request: pb.GetArtifactRequest, context: grpc.aio.ServicerContext[pb.GetArtifactRequest, pb.ArtifactChunk]
    ) -> None:
        """Stream an artifact.

        1. Read it and encode it canonically: those are the bytes its hash is of.
        2. Send the size, then the bytes, :data:`CHUNK` at a time, as fast as the client takes them.
        """
        if not _SHA256.fullmatch(request.sha256):
            raise InvalidArgument(
                f"{request.sha256[:80]!r} is not a SHA-256 in lower-case hexadecimal", details={"field": "sha256"}
            )
        data = await asyncio.to_thread(self._artifact, request.sha256)
        await context.write(pb.ArtifactChunk(header=pb.ArtifactHeader(size=len(data))))
        for start in range(0, len(data), CHUNK):
            await context.write(pb.ArtifactChunk(data=data[start : start + CHUNK]))

    async def ListKernels(  # noqa: N802
        self,
        request: pb.ListKernelsRequest,
        context: grpc.aio.ServicerContext[pb.ListKernelsRequest, pb.ListKernelsResponse],
    ) -> pb.ListKernelsResponse:
        """Kernels, newest first."""
        if not 0 <= request.limit <= MAX_KERNELS:
            raise InvalidArgument(
                f"limit must be between 1 and {MAX_KERNELS}, not {request.limit}", details={"field": "limit"}
            )
        device_key = None
        if request.HasField("device"):
            device_key = (await asyncio.to_thread(self._device, request.device)).key
        kernels = await asyncio.to_thread(
            self._store.kernels, device_key, request.operator or None, request.limit or _DEFAULT_KERNELS
        )
        return pb.ListKernelsResponse(kernels=[kernel_to_proto(kernel) for kernel in kernels])

    async def GetStats(  # noqa: N802
        self, request: pb.GetStatsRequest, context: grpc.aio.ServicerContext[pb.GetStatsRequest, pb.Stats]
    ) -> pb.Stats:
        """Counts for people."""
        return stats_to_proto(await asyncio.to_thread(self._store.stats))

    def _device(self, selector: common_pb2.DeviceSelector) -> Device:
        device = selector_from_proto(selector)
        return self._devices(device) if isinstance(device, str) else device

    def _lookup(self, texts: list[str], selector: common_pb2.DeviceSelector, mode: int) -> tuple[LookupResult, ...]:
        workloads = [Workload.parse(text) for text in texts]
        return lookup_all(self._store, workloads, self._device(selector), mode_from_proto(mode))

    def _artifact(self, sha256: str) -> bytes:
        artifact = self._store.get_artifact(sha256)
        if artifact.sha256 != sha256:
            raise DataLoss(f"artifact {sha256} has the hash {artifact.sha256}", details={"sha256": sha256})
        return codec.dumps(artifact)
