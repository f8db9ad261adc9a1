"""How much memory there is, what a session needs, and what a worker uses. All in bytes."""

from __future__ import annotations

import os
from pathlib import Path

from fettle.graph.errors import ResourceExhausted
from fettle.graph.tensors import TensorSpec
from fettle.graph.workload import Workload

_PAGE = os.sysconf("SC_PAGE_SIZE")
_CGROUPS = Path("/sys/fs/cgroup")


def total() -> int:
    """Memory this process may use at most: the machine's, or its control group's limit."""
    limits = [_meminfo()["MemTotal"], *(limit for limit, _ in _cgroup_limits())]
    return min(limits)


def available() -> int:
    """Memory that can be taken now without swapping or meeting a control group's limit."""
    return max(0, min([_meminfo()["MemAvailable"], *(limit - used for limit, used in _cgroup_limits())]))


def session_need(workload: Workload) -> int:
    """Most memory a session on a workload takes in the host and the measuring worker together.

    Operands three times: generated, in shared memory, and the worker's own (a code takes a byte); float64 copies
    of dense operands and their magnitudes, which the reference makes; six float64 arrays of the result's size
    (expected value, tolerance, temporaries, the kernel's own); and two packed copies of the constants.
    """
    operands = sum(_unpacked(tensor) for tensor in workload.operands)
    dense = sum(8 * tensor.size for tensor in workload.operands if not tensor.format.is_quantised)
    packed = sum(tensor.nbytes for tensor in workload.operands if tensor.constant)
    return 3 * operands + 2 * dense + 6 * 8 * workload.result.size + 2 * packed


def require(workload: Workload) -> None:
    """Check that a session on a workload fits.

    Raises:
        ResourceExhausted: it does not; needed and available bytes are in the details.
    """
    need, free = session_need(workload), available()
    if need > free:
        raise ResourceExhausted(
            f"verifying {workload} needs about {_gib(need)} of memory; {_gib(free)} are available",
            hint="use a smaller shape, or a machine with more memory",
            details={"needed_bytes": str(need), "available_bytes": str(free)},
        )


def used_by(pid: int) -> int:
    """Private memory of a process and its descendants (shared operands do not count); 0 if it is gone."""
    pids, seen = [pid], 0
    while pids:
        process = pids.pop()
        try:
            resident, shared = Path(f"/proc/{process}/statm").read_text().split()[1:3]
            seen += (int(resident) - int(shared)) * _PAGE
            for thread in os.listdir(f"/proc/{process}/task"):
                pids += map(int, Path(f"/proc/{process}/task/{thread}/children").read_text().split())
        except OSError:  # it ended meanwhile
            continue
    return seen


def _unpacked(tensor: TensorSpec) -> int:
    """Bytes of an operand as verification data: a byte per code, plus scales and zero points."""
    if not tensor.format.is_quantised:
        return tensor.nbytes
    groups = tensor.shape[0] * tensor.format.groups(tensor.shape[1])
    return tensor.size + groups * (tensor.format.scale_dtype.itemsize + tensor.format.zero_points)


def _meminfo() -> dict[str, int]:
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    return {words[0].rstrip(":"): int(words[1]) * 1024 for words in lines}


def _cgroup_limits() -> list[tuple[int, int]]:
    """(limit, used) of every enclosing control group (version 2) that has a limit."""
    found = []
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    for line in lines:
        if not line.startswith("0::/"):
            continue
        group = _CGROUPS / line.removeprefix("0::/")
        for folder in (group, *group.parents):
            if not folder.is_relative_to(_CGROUPS):
                break
            try:
                limit = (folder / "memory.max").read_text().strip()
                if limit != "max":
                    statistics = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
                    used = int((folder / "memory.current").read_text()) - int(statistics.get("inactive_file", 0))
                    found.append((int(limit), used))
            except OSError:  # the root group and a mounted namespace have no such files
                continue
    return found


def _gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"
