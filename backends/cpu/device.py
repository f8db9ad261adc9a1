"""CPU devices: what the silicon is, and which part of it a device text allows.

Detection reads ``/proc/cpuinfo``, ``/sys`` and the affinity mask, nothing else; it never runs code.
"""

from __future__ import annotations

import functools
import os
import platform
from collections.abc import Mapping
from pathlib import Path

import attrs

from fettle.backends.api import Device, DeviceText
from fettle.graph.errors import InvalidDevice, Unsupported

BACKEND = "cpu"

FEATURES: Mapping[str, str] = {
    "pni": "sse3",
    "ssse3": "ssse3",
    "sse4_1": "sse4.1",
    "sse4_2": "sse4.2",
    "popcnt": "popcnt",
    "abm": "lzcnt",
    "movbe": "movbe",
    "bmi1": "bmi",
    "bmi2": "bmi2",
    "avx": "avx",
    "f16c": "f16c",
    "fma": "fma",
    "avx2": "avx2",
    "avx_vnni": "avxvnni",
    "gfni": "gfni",
    "avx512f": "avx512f",
    "avx512bw": "avx512bw",
    "avx512dq": "avx512dq",
    "avx512vl": "avx512vl",
    "avx512cd": "avx512cd",
    "avx512vbmi": "avx512vbmi",
    "avx512_vbmi2": "avx512vbmi2",
    "avx512_vnni": "avx512vnni",
    "avx512_bf16": "avx512bf16",
    "avx512_fp16": "avx512fp16",
    "amx_tile": "amx-tile",
    "amx_int8": "amx-int8",
    "amx_bf16": "amx-bf16",
}
"""Flag of ``/proc/cpuinfo`` -> feature name of LLVM, for the features code generation may use."""

_AVX2 = ("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "lzcnt", "movbe", "bmi", "bmi2", "avx", "f16c", "fma", "avx2")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")
_VNNI = (*_AVX512, "avx512vnni", "avx512vbmi")

TILES = frozenset(("amx-tile", "amx-int8", "amx-bf16"))
"""Features whose instructions only appear where a kernel names them, and which the kernel of the system must permit."""

LEVELS: Mapping[str, frozenset[str]] = {
    "portable": frozenset(),
    "avx2": frozenset(_AVX2),
    "avx512": frozenset(_AVX512),
    "avx512vnni": frozenset(_VNNI),
    "amx": frozenset((*_VNNI, "avx512bf16", *TILES)),
}
"""ISA levels a device text may ask for, ascending: each is the exact feature set code may use.

Without ``isa=`` everything the machine has may be used, which can be more than the highest level.
"""


@attrs.frozen
class Machine:
    """The silicon of this machine and the cores this process may use.

    Attributes:
        arch: ``x86_64``, ``aarch64`` …
        vendor, family, model, stepping: as ``/proc/cpuinfo`` prints them; empty or 0 where it does not.
        name: the marketing name.
        features: LLVM names of the vector features present.
        caches: ``L1d``, ``L2``, ``L3`` -> bytes of one instance; a level the machine lacks is absent.
        cores: logical cores of the affinity mask.
    """

    arch: str
    vendor: str
    family: int
    model: int
    stepping: int
    name: str
    features: frozenset[str]
    caches: tuple[tuple[str, int], ...]
    cores: int

    @classmethod
    def detect(cls, cpuinfo: Path = Path("/proc/cpuinfo")) -> Machine:
        """Read this machine."""
        fields = _cpuinfo(cpuinfo)
        flags = fields.get("flags", "").split()
        return cls(
            arch=platform.machine(),
            vendor=fields.get("vendor_id", fields.get("CPU implementer", "")),
            family=_number(fields.get("cpu family", fields.get("CPU architecture", ""))),
            model=_number(fields.get("model", fields.get("CPU part", ""))),
            stepping=_number(fields.get("stepping", fields.get("CPU revision", ""))),
            name=fields.get("model name", platform.machine()),
            features=frozenset(FEATURES[flag] for flag in flags if flag in FEATURES),
            caches=_caches(Path("/sys/devices/system/cpu/cpu0/cache")),
            cores=len(usable_cores()),
        )


def usable_cores() -> tuple[int, ...]:
    """Numbers of the logical cores the calling thread may run on; second threads of a core come last."""
    return tuple(sorted(os.sched_getaffinity(0), key=lambda core: (_sibling_rank(core), core)))


def default_device(machine: Machine | None = None) -> Device:
    """The whole machine: all usable cores, every feature."""
    machine = machine or Machine.detect()
    return _device(machine, machine.cores, None)


def parse_device(text: DeviceText, machine: Machine | None = None) -> Device:
    """The device a text names: ``cpu[,threads=N][,isa=LEVEL]``.

    Raises:
        InvalidDevice: a preset, an unknown option, level or thread count.
        Unsupported: the machine lacks the level's features.
    """
    machine = machine or Machine.detect()
    if text.preset:
        raise InvalidDevice(f"device cpu has no preset {text.preset!r}", hint="example: cpu,threads=1,isa=avx2")
    options = text.only("threads", "isa")
    threads = text.whole_number("threads", 1, machine.cores, default=machine.cores)
    level = _level(options["isa"], machine) if "isa" in options else None
    return _device(machine, threads, level)


def features(device: Device) -> frozenset[str]:
    """ISA features code for the device may use, under their LLVM names; empty off x86 and for ``portable``."""
    present = frozenset(str(device.fact("isa", "")).split())
    level = device.limit("isa")
    return present if level is None else present & LEVELS[level]


def threads(device: Device) -> int:
    """The most threads a schedule may use."""
    return int(device.limit("threads", 1))


def thread_counts(device: Device) -> tuple[int, ...]:
    """Powers of two up to the device's limit, and the limit."""
    limit = threads(device)
    return tuple(sorted({limit, *(1 << i for i in range(limit.bit_length()))}))


def cache_bytes(device: Device, level: str) -> int:
    """Size of one ``L1d``, ``L2`` or ``L3`` in bytes; 0 where the machine has none or does not tell."""
    return int(device.fact(f"{level}_bytes", 0))


def l1_bytes(device: Device) -> int:
    """Size of a core's L1 data cache, in bytes (32 KiB where the machine does not tell)."""
    return cache_bytes(device, "L1d") or 32 << 10


def l2_bytes(device: Device) -> int:
    """Size of a core's L2 cache, in bytes (512 KiB where the machine does not tell)."""
    return cache_bytes(device, "L2") or 512 << 10


def last_level_bytes(device: Device) -> int:
    """Size of the largest cache, in bytes (32 MiB where the machine does not tell)."""
    return max(cache_bytes(device, level) for level in ("L1d", "L2", "L3")) or 32 << 20


def vector_bits(device: Device) -> int:
    """Width of the widest usable vector register: 512, 256 or 128."""
    usable = features(device)
    return 512 if "avx512f" in usable else 256 if "avx2" in usable else 128


def is_x86(device: Device) -> bool:
    """Whether the device has the instructions of x86."""
    return device.fact("arch") in ("x86_64", "AMD64")


def missing_features(isa: tuple[str, ...], machine: Machine | None = None) -> tuple[str, ...]:
    """Those features of ``isa`` that this machine lacks, sorted."""
    return tuple(sorted(set(isa) - (machine or Machine.detect()).features))


def _device(machine: Machine, thread_limit: int, level: str | None) -> Device:
    facts: dict[str, int | str] = {
        "arch": machine.arch,
        "vendor": machine.vendor,
        "family": machine.family,
        "model": machine.model,
        "stepping": machine.stepping,
        "isa": " ".join(sorted(machine.features)),
        **{f"{level}_bytes": size for level, size in machine.caches},
    }
    limits: dict[str, int | str] = {"threads": thread_limit}
    if level is not None:
        limits["isa"] = level
    return Device(BACKEND, "", tuple(facts.items()), tuple(limits.items()), label=machine.name)


def _level(value: str, machine: Machine) -> str:
    if value not in LEVELS:
        raise InvalidDevice(f"unknown ISA level {value!r}", hint=f"levels: {' '.join(LEVELS)}")
    lacking = sorted(LEVELS[value] - machine.features)
    if lacking:
        raise Unsupported(f"this machine cannot run isa={value}", hint=f"it lacks {' '.join(lacking)}")
    return value


def _cpuinfo(path: Path) -> dict[str, str]:
    """The first processor's ``key: value`` lines; empty where there is no such file."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return {}
    fields: dict[str, str] = {}
    for line in lines:
        key, _, value = line.partition(":")
        fields.setdefault(key.strip(), value.strip())
    return fields


@functools.cache
def _sibling_rank(core: int) -> int:
    """0 for the first hardware thread of a physical core, 1 for its second …"""
    path = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list")
    try:
        siblings = [int(n) for part in path.read_text().split(",") for n in part.split("-")]
    except (OSError, ValueError):
        return 0
    return sum(n < core for n in siblings)


def _number(text: str) -> int:
    try:
        return int(text, 0)
    except ValueError:
        return 0


def _caches(root: Path) -> tuple[tuple[str, int], ...]:
    """Data and unified caches of core 0."""
    found = {}
    for index in sorted(root.glob("index*")):
        try:
            kind = (index / "type").read_text().strip()
            level = (index / "level").read_text().strip()
            size = (index / "size").read_text().strip()
        except OSError:
            continue
        if kind in ("Data", "Unified"):
            unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(size[-1:], 1)
            found["L1d" if level == "1" else f"L{level}"] = int(size.rstrip("KMG")) * unit
    return tuple(sorted(found.items()))
