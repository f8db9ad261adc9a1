"""TensorIR to an object file, with TVM and its bundled LLVM. Needs no compiler or linker on the machine."""

from __future__ import annotations

import re
import tempfile
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from fettle.backends.api import Device, Pairs
from fettle.backends.cpu import device as cpu
from fettle.backends.cpu.family import Lowered
from fettle.graph.errors import BuildFailure

_X86_LEVELS = (("x86-64-v4", cpu.LEVELS["avx512"]), ("x86-64-v3", cpu.LEVELS["avx2"]), ("x86-64", frozenset[str]()))

COUNTED = {
    "fma": re.compile(r"vfn?m(?:add|sub)\d+[ps]s"),
    "vpermb": re.compile(r"vperm(?:b|[it]2b)"),
    "vpshufb": re.compile(r"v?pshufb"),
    "vpdpbusd": re.compile(r"vpdpbusds?"),
    "tile_products": re.compile(r"tdp\w+"),
    "tile_loads": re.compile(r"tileloadd\w*"),
    "vpmaddubsw": re.compile(r"v?pmaddubsw"),
    "stream_stores": re.compile(r"v?movnt\w+"),
    "prefetches": re.compile(r"prefetch\w+"),
    "gathers": re.compile(r"vp?gather\w+"),
    "divisions": re.compile(r"v?div[ps]s"),
    "calls": re.compile(r"call\w*"),
}
"""Instructions counted in the emitted assembly (statically, not how often they run)."""

_SPILL = re.compile(r"v?mov\w+\s+(?:[-\w]*\(%r[sb]p\),\s*%[xyz]mm|%[xyz]mm\d+,\s*[-\w]*\(%r[sb]p\))")


def target(device: Device) -> Any:
    """The ``tvm.target.Target`` of a device: features come from its facts, never from LLVM's own guess."""
    import tvm

    return tvm.target.Target({"kind": "llvm", "num-cores": cpu.threads(device), **_machine_options(device)})


def isa(device: Device) -> tuple[str, ...]:
    """Features that code compiled for the device may contain without naming them, sorted."""
    return tuple(sorted(cpu.features(device) - cpu.TILES))


def _machine_options(device: Device) -> dict[str, Any]:
    if not cpu.is_x86(device):
        return {}
    usable = cpu.features(device)
    name, base = next((name, base) for name, base in _X86_LEVELS if base <= usable)
    return {"mcpu": name, "mattr": [f"+{feature}" for feature in sorted(usable - base)]}


def compile(lowered: Lowered, device: Device, entry: str) -> tuple[bytes, Pairs]:
    """An ELF object that exports ``entry``, and facts of the emitted assembly.

    Raises:
        BuildFailure: TVM or LLVM rejects the function.
    """
    from fettle.backends.cpu.lowering import llvm_module

    try:
        module = llvm_module(lowered.function, target(device), entry)
        with tempfile.TemporaryDirectory(prefix="fettle-") as folder:
            path = Path(folder) / "kernel.o"
            module.write_to_file(str(path), "o")
            payload = path.read_bytes()
        assembly = str(module.inspect_source("asm"))
    except Exception as error:  # TVM raises many classes, all of them mean that this candidate does not compile
        raise BuildFailure(f"{type(error).__name__}: {str(error)[-1500:]}") from error
    return payload, assembly_facts(assembly, len(payload))


def assembly(lowered: Lowered, device: Device) -> str:
    """The assembly of what :func:`compile` makes."""
    from fettle.backends.cpu.lowering import llvm_module

    return str(llvm_module(lowered.function, target(device), "kernel").inspect_source("asm"))


def assembly_facts(assembly: str, payload_bytes: int) -> Pairs:
    """Counts of :data:`COUNTED` instructions, of vector spills (moves to or from the stack) and sizes."""
    facts = dict.fromkeys(COUNTED, 0)
    instructions = spills = 0
    for line in assembly.splitlines():
        text = line.strip().removeprefix("{vex}").lstrip()  # how LLVM marks AVX-VNNI
        if not line.startswith("\t") or text.startswith((".", "#")):
            continue
        instructions += 1
        mnemonic = text.split(maxsplit=1)[0]
        for name, pattern in COUNTED.items():
            if pattern.fullmatch(mnemonic):
                facts[name] += 1
        spills += _SPILL.match(text) is not None
    facts |= {"instructions": instructions, "spills": spills, "object_bytes": payload_bytes}
    return tuple(sorted(facts.items()))


@cache
def toolchain() -> str:
    """Versions of what built an artifact: ``tvm-0.27.0.post1 llvm-22``."""
    import tvm  # noqa: F401  registers the function below
    import tvm_ffi

    llvm = tvm_ffi.get_global_func("target.llvm_version_major")()
    return f"tvm-{metadata.version('apache-tvm')} llvm-{llvm}"
