"""Measures the roofs of a CPU: read bandwidth per level of memory, and arithmetic peaks, per thread count."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np

from fettle.backends.api import Device, Profile, Roof
from fettle.backends.cpu import codegen, loader, threads
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.amx import permit
from fettle.backends.cpu.amx.peak import SUMS, tile_peak_kernel, tile_peaks
from fettle.backends.cpu.family import Lowered
from fettle.backends.cpu.measure import evaluate
from fettle.backends.cpu.profile_kernels import AHEAD, STREAMS, peak_kernel, peaks, read_kernel
from fettle.backends.cpu.views import empty, prepared

LEVELS = ("L1", "L2", "L3", "dram")

_SAMPLE_SECONDS = 0.0008
_ROOF_SECONDS = 0.05
_DRAM_LIMIT = 1 << 29


def measure_profile(device: Device) -> Profile:
    """All roofs of a device. Takes seconds, and wants the machine to itself.

    Each roof is the best of many short samples: a roof says what is possible, disturbance only ever lowers it,
    and a sample shorter than a scheduler's time slice has a chance to be free of any.
    """
    roofs = []
    for count in cpu.thread_counts(device):
        threads.use(count)
        with threads.pinned():
            roofs += [*_reads(device, count), *_peaks(device, count), *_tile_peaks(device, count)]
    return Profile(device.key, tuple(_at_least_as_fewer(roof, roofs) for roof in roofs))


def _at_least_as_fewer(roof: Roof, roofs: Sequence[Roof]) -> Roof:
    """A roof is no lower than the same roof with fewer threads: the others may idle."""
    fewer = [r.value for r in roofs if r.name == roof.name and r.threads <= roof.threads]
    return attrs.evolve(roof, value=max(fewer))


def capacities(device: Device, count: int) -> dict[str, int]:
    """Bytes ``count`` threads can keep in L1, L2 and L3 together (private caches add up)."""
    return {
        "L1": count * cpu.cache_bytes(device, "L1d"),
        "L2": count * cpu.cache_bytes(device, "L2"),
        "L3": cpu.cache_bytes(device, "L3"),
    }


def _working_sets(device: Device, count: int) -> dict[str, int]:
    """Bytes to read (all threads together) so that the named level serves them; a level that cannot is absent."""
    size = capacities(device, count)
    sets = {"L1": size["L1"] * 2 // 3, "L2": size["L2"] * 3 // 4}
    shared = max(size["L3"] // 4, 2 * size["L2"])  # too much for the L2 caches
    if shared <= size["L3"]:
        sets["L3"] = shared
    sets = {level: bytes_ for level, bytes_ in sets.items() if bytes_}
    sets["dram"] = min(4 * cpu.last_level_bytes(device), _DRAM_LIMIT)
    return sets


def _reads(device: Device, count: int) -> Iterator[Roof]:
    """Bytes a second from every level, by the number of streams a thread reads that is best there."""
    lanes = cpu.vector_bits(device) // 32
    sets = _working_sets(device, count)
    data = empty((max(sets.values()) // 4,), np.dtype(np.int32))
    data[:] = 1  # unwritten pages may all be the one zero page, which is always cached
    data_view, out = prepared([data, np.zeros((count, lanes), np.int32)])
    modules = {
        (streams, ahead): _load(read_kernel(streams, lanes, data.size, count, ahead), device)
        for streams, ahead in itertools.product(STREAMS, AHEAD)
    }
    for level, size in sets.items():
        found = []
        for (streams, ahead), module in modules.items():
            if ahead and level != "dram":
                continue
            block = streams * lanes * 4
            blocks = max(1, size // block // count)
            touched = blocks * block * count
            read = partial(_time, module, data_view, out, blocks)
            passes = _repeats(read)
            found.append(Roof(f"read:{level}", touched * passes / _best(read, passes), count, touched))
        yield max(found, key=lambda roof: roof.value)


def _peaks(device: Device, count: int) -> Iterator[Roof]:
    """Operations a second of vectors."""
    lanes = cpu.vector_bits(device) // 32
    for peak in peaks(device):
        module = _load(peak_kernel(peak, lanes, count), device)
        seed = np.full((2, lanes), 0.5 if peak.dtype == "float32" else 0x01010101, peak.dtype)
        seed_view, out = prepared([seed, np.zeros((count, peak.accumulators, lanes), peak.dtype)])
        run = partial(_time, module, seed_view, out)
        steps = _repeats(run)
        seconds = _best(run, steps)
        yield Roof(peak.roof, count * peak.accumulators * peak.operations * steps / seconds, count)


def _tile_peaks(device: Device, count: int) -> Iterator[Roof]:
    """Operations a second of tiles."""
    for peak in tile_peaks(device):
        permit()
        module = _load(tile_peak_kernel(peak, count), device)
        seed = np.full(256, peak.word, np.int32)
        seed_view, out = prepared([seed, np.zeros(count * SUMS * seed.size, np.int32)])
        run = partial(_time, module, seed_view, out)
        steps = _repeats(run)
        yield Roof(peak.roof, count * SUMS * peak.operations * steps / _best(run, steps), count)


def _load(function: Any, device: Device) -> Any:
    """The module of a TensorIR function, built and linked."""
    payload, _ = codegen.compile(Lowered(function), device, loader.ENTRY)
    return loader.link(payload)


def _time(module: Any, *arguments: Any) -> float:
    """Seconds of one call."""
    return evaluate(module, loader.ENTRY, 1, arguments)


def _repeats(time_of: Callable[[int], float]) -> int:
    """Repetitions inside the kernel that make a call last a sample."""
    repeats = 1
    while (seconds := min(time_of(repeats) for _ in range(3))) < _SAMPLE_SECONDS and repeats < 1 << 28:
        repeats = int(repeats * max(2.0, min(1e3, _SAMPLE_SECONDS / max(seconds, 1e-7))))
    return repeats


def _best(time_of: Callable[[int], float], repeats: int) -> float:
    """The shortest of many samples."""
    best, end = time_of(repeats), time.perf_counter() + _ROOF_SECONDS
    while time.perf_counter() < end:
        best = min(best, time_of(repeats))
    return best
