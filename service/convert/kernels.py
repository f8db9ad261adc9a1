"""Kernels, lookups and counts."""

from __future__ import annotations

import attrs

from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.service.convert.values import (
    basis_from_proto,
    basis_to_proto,
    device_from_proto,
    device_to_proto,
    mode_from_proto,
    mode_to_proto,
    schedule_from_proto,
    schedule_to_proto,
)
from fettle.store.api import Stats
from fettle.store.kernels import Kernel
from fettle.store.lookup import LookupResult, Miss
from fettle.v1 import kernels_pb2 as pb

_SAME = (
    "artifact_sha256",
    "default_s",
    "best_s",
    "bound_s",
    "bound",
    "max_error",
    "error_ratio",
    "trials",
    "job_id",
    "created",
    "toolchain",
    "abi",
    "space_version",
    "version",
)
"""Fields that have one name and type on both sides."""

_MATCHES = {"none": pb.MATCH_NONE, "exact": pb.MATCH_EXACT}


def kernel_to_proto(kernel: Kernel) -> pb.Kernel:
    return pb.Kernel(
        key=kernel.key,
        workload=str(kernel.workload),
        device=device_to_proto(kernel.device),
        schedule=schedule_to_proto(kernel.schedule),
        mode=mode_to_proto(kernel.mode),
        basis=basis_to_proto(kernel.basis),
        best_ci_low=kernel.best_ci[0],
        best_ci_high=kernel.best_ci[1],
        isa=kernel.isa,
        **{name: getattr(kernel, name) for name in _SAME},
    )


def kernel_from_proto(message: pb.Kernel) -> Kernel:
    return Kernel(
        workload=Workload.parse(message.workload),
        device=device_from_proto(message.device),
        schedule=schedule_from_proto(message.schedule),
        mode=mode_from_proto(message.mode),
        basis=basis_from_proto(message.basis),
        best_ci=(message.best_ci_low, message.best_ci_high),
        isa=tuple(message.isa),
        **{name: getattr(message, name) for name in _SAME},
    )


def lookup_to_proto(result: LookupResult) -> pb.LookupResponse:
    return pb.LookupResponse(
        match=_MATCHES[result.match],
        key=result.key,
        kernel=kernel_to_proto(result.kernel) if result.kernel is not None else None,
        misses=[pb.Miss(field=m.field, wanted=m.wanted, nearest=m.nearest) for m in result.misses],
    )


def lookup_from_proto(message: pb.LookupResponse) -> LookupResult:
    """Raises InvalidArgument for a kind of match this version does not know."""
    for match, number in _MATCHES.items():
        if number == message.match:
            kernel = kernel_from_proto(message.kernel) if message.HasField("kernel") else None
            return LookupResult(
                match, message.key, kernel, tuple(Miss(m.field, m.wanted, m.nearest) for m in message.misses)
            )
    raise InvalidArgument(f"the server answered with an unknown kind of match ({message.match})")


def stats_to_proto(stats: Stats) -> pb.Stats:
    return pb.Stats(**attrs.asdict(stats))


def stats_from_proto(message: pb.Stats) -> Stats:
    return Stats(**{field.name: getattr(message, field.name) for field in attrs.fields(Stats)})
