"""The time no schedule can beat: roofline over the levels of memory."""

from __future__ import annotations

from fettle.backends.api import Bound, Device, Profile, Roof
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.profile import capacities
from fettle.graph.errors import InvalidArgument
from fettle.graph.operators.codes import CODES
from fettle.graph.tensors import TensorSpec
from fettle.graph.workload import Workload

_TERNARY_BITS = 1.585
"""log2(3): no packing of ternary codes is denser."""

_HALF_ARITHMETIC = frozenset(("avx512bf16", "avx512fp16"))


def workload_bound(workload: Workload, device: Device, profile: Profile) -> Bound:
    """The largest of these lower bounds, each valid alone, for a kernel that runs again and again (hot)::

        bytes / bandwidth(L1)
        (bytes - what the caches above a level can hold) / bandwidth(level)      for L2, L3, dram
        operations / peak

    where bytes are the compulsory ones (every operand read, the result written, once). Operations count only
    where fewer instructions cannot do: looking up sums of several low-bit weights at once does several
    multiply-adds per byte, so the int8 peak of vectors is raised by 8 / bits for quantised weights. Where the device
    multiplies tiles, the highest of the peaks that may apply counts.

    Raises:
        InvalidArgument: the profile is of another device.
    """
    if profile.device_key != device.key:
        raise InvalidArgument("the profile was measured on another device")
    count = cpu.threads(device)
    traffic = sum(_least_bytes(t) for t in (*workload.operands, workload.result))
    bounds = [Bound(0.0, "")]
    held = 0.0
    sizes = capacities(device, count)
    for level in ("L1", "L2", "L3", "dram"):
        roof = _best(profile, f"read:{level}", count)
        if roof is not None:
            bounds.append(Bound(max(0.0, traffic - held) / roof.value, roof.name))
        held += sizes.get(level, 0)
    bounds += _arithmetic(workload, device, profile, count)
    return max(bounds, key=lambda bound: bound.seconds)


def _best(profile: Profile, name: str, count: int) -> Roof | None:
    """The highest roof of that name that at most ``count`` threads reached."""
    found = [roof for roof in profile.roofs if roof.name == name and roof.threads <= count]
    return max(found, key=lambda roof: roof.value, default=None)


def _least_bytes(tensor: TensorSpec) -> float:
    """Bytes of a tensor, of ternary codes as densely as they can be packed."""
    if tensor.format.kind == "tern":
        return tensor.nbytes - tensor.size * (tensor.format.bits - _TERNARY_BITS) / 8
    return float(tensor.nbytes)


def _arithmetic(workload: Workload, device: Device, profile: Profile, count: int) -> list[Bound]:
    """Operations at the highest peak of ``count`` threads that may apply; empty where none was measured."""
    formats = [t.format for t in (*workload.operands, workload.result)]
    peaks: dict[str, float] = {}
    f32, i8 = _best(profile, "peak:f32", count), _best(profile, "peak:i8", count)
    tiles_i8, tiles_bf16 = _best(profile, "peak:amx-i8", count), _best(profile, "peak:amx-bf16", count)
    if f32 is not None:
        # a bf16 dot product instruction does two multiply-adds where an f32 one does one
        halves = any(f.kind != "f32" for f in formats) and not cpu.features(device).isdisjoint(_HALF_ARITHMETIC)
        peaks[f32.name] = f32.value * (2 if halves else 1)
    products_of_codes = workload.operator in ("matmul", "conv2d") and workload["act"].kind in CODES
    if any(f.is_quantised for f in formats) or products_of_codes:
        if i8 is None:
            return []  # nothing was measured about arithmetic on bytes
        peaks[i8.name] = i8.value * max([1.0, *(8.0 / f.bits for f in formats if f.is_quantised)])
        if tiles_i8 is not None:
            peaks[tiles_i8.name] = tiles_i8.value
    if tiles_bf16 is not None and any(f.kind == "bf16" for f in formats):
        peaks[tiles_bf16.name] = tiles_bf16.value
    if not peaks:
        return []
    name, value = max(peaks.items(), key=lambda item: item[1])
    return [Bound(workload.flops / value, name)]
