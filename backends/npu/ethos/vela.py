"""Runs Vela on a network and reads what it estimates."""

from __future__ import annotations

import csv
import itertools
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from importlib import metadata, util
from pathlib import Path

import attrs

from fettle.backends.api import Basis, Device, Parameter, Schedule, Simulation, Space, Value
from fettle.backends.npu.ethos import networks, systems
from fettle.graph.errors import BuildFailure
from fettle.graph.workload import Workload

_SWITCHES = {
    "cascading": "--disable-cascading",
    "chaining": "--disable-chaining",
    "forwarding": "--disable-fwd",
    "buffering": "--disable-buffering",
    "reuse": "--disable-ifm-reuse",
}
_TIMEOUT = 120.0


def space(workload: Workload, device: Device) -> Space:
    """Vela's options, the choices in writing the network, and what the device leaves open."""
    parameters, constraints = networks.choices(workload)
    options = (
        Parameter("optimise", ("Performance", "Size")),
        Parameter("allocator", ("HillClimb", "Greedy", "LinearAlloc")),
        Parameter("arena", (0, *(1 << i for i in range(15, 22)))),
        Parameter("block_dependency", (0, 1, 2, 3)),
        *(Parameter(name, (False, True)) for name in _SWITCHES),
    )
    return Space((*systems.choices(device), *parameters, *options), constraints)


def textbook(workload: Workload, device: Device) -> dict[str, Value]:
    """Vela's own defaults on the usual system; ``arena`` 0 is the memory mode's size."""
    defaults: dict[str, Value] = {
        "optimise": "Performance",
        "allocator": "HillClimb",
        "arena": 0,
        "block_dependency": 3,
    }
    return {**systems.textbook(device), **networks.textbook(workload), **defaults, **dict.fromkeys(_SWITCHES, True)}


@attrs.frozen
class Compiled:
    """A compiled file, Vela's summary of it, and what it makes the device do: transfers and operations on blocks."""

    payload: bytes = attrs.field(repr=False)
    summary: Mapping[str, str]
    commands: tuple[str, ...] = attrs.field(repr=False)

    def number(self, column: str) -> float:
        """A figure of the summary."""
        return float(self.summary[column])


def is_installed() -> bool:
    """Whether Vela can be run."""
    return util.find_spec("ethosu") is not None and util.find_spec("ethosu.vela") is not None


def compile_network(network: bytes, device: Device, schedule: Schedule) -> Compiled:
    """Run Vela in a process of its own: it may take seconds, and exits on what it does not like.

    Raises:
        BuildFailure: Vela failed, or left operators to the CPU.
    """
    accelerator, system, memory = systems.configuration(device, schedule)
    words = [
        *(sys.executable, "-m", "ethosu.vela", "network.tflite", "--output-dir", "out", "--config", "Arm/vela.ini"),
        *("--accelerator-config", accelerator, "--system-config", system, "--memory-mode", memory),
        *("--optimise", str(schedule["optimise"]), "--tensor-allocator", str(schedule["allocator"])),
        *("--max-block-dependency", str(schedule["block_dependency"])),
        *(flag for name, flag in _SWITCHES.items() if not schedule[name]),
        "--verbose-high-level-command-stream",
    ]
    if schedule["arena"]:
        words += ["--arena-cache-size", str(schedule["arena"])]
    with tempfile.TemporaryDirectory(prefix="fettle-vela-") as folder:
        Path(folder, "network.tflite").write_bytes(network)
        try:
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=_TIMEOUT, check=False)
        except subprocess.TimeoutExpired:
            raise BuildFailure(f"vela took longer than {_TIMEOUT:g} s") from None
        summaries = list(Path(folder, "out").glob("*_summary_*.csv"))
        if done.returncode or not summaries:
            raise BuildFailure(f"vela failed: {(done.stderr or done.stdout).strip()[-500:]}")
        if "CPU operators = 0 " not in done.stdout:
            raise BuildFailure("vela leaves operators to the CPU, whose cycles it does not estimate")
        with summaries[0].open(encoding="utf-8", newline="") as lines:
            (summary,) = csv.DictReader(lines)
        return Compiled(Path(folder, "out", "network_vela.tflite").read_bytes(), summary, _commands(done.stdout))


def _commands(printed: str) -> tuple[str, ...]:
    """The numbered lines of the high-level command stream that Vela prints, without their numbers."""
    stream = printed.partition("High level command stream:\n")[2].splitlines()
    numbered = itertools.takewhile(lambda line: line[:1].isdigit(), stream)
    return tuple(line.split(" ", 1)[1] for line in numbered)


def simulation(compiled: Compiled, schedule: Schedule, *, trace: bool = False) -> Simulation:
    """What Vela says of a compiled network; the trace is its own command stream."""
    cycles = round(compiled.number("cycles_total"))
    counters = {
        "compute_cycles": round(compiled.number("cycles_npu")),
        "sram_bytes": round(compiled.number("sram_total_bytes")),
        "flash_bytes": round(compiled.number("off_chip_flash_total_bytes")),
        "sram_used": round(1024 * compiled.number("sram_memory_used")),
        "dram_used": round(1024 * compiled.number("dram_memory_used")),
        "compiled_bytes": len(compiled.payload),
        "toolchain": toolchain(),
    }
    return Simulation(
        cycles=cycles,
        seconds=cycles / compiled.number("core_clock"),
        schedule=schedule,
        commands=(("operators", round(compiled.number("passes_after_fusing"))),),
        dram_bytes=round(compiled.number("dram_total_bytes")),
        basis=Basis.ESTIMATED,
        counters=tuple(counters.items()),
        trace=compiled.commands if trace else (),
    )


def toolchain() -> str:
    """Vela and its version."""
    return f"vela-{metadata.version('ethos-u-vela')}"
