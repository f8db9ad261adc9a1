"""Which Ethos-U systems there are: device texts, and what they leave open for a schedule to say."""

from __future__ import annotations

from fettle.backends.api import Device, DeviceText, Parameter, Schedule, Value
from fettle.graph.errors import InvalidDevice

_SYSTEMS = {
    "ethos-u55": ("Ethos_U55_High_End_Embedded", 0.5e9),
    "ethos-u65": ("Ethos_U65_High_End", 1e9),
    "ethos-u85": ("Ethos_U85_SYS_DRAM_Mid", 1e9),
}
"""System configuration of each family, and its clock in Hz, as in Vela's own ``Arm/vela.ini``."""

_DEDICATED = ("Dedicated_Sram", "Dedicated_Sram_256KB", "Dedicated_Sram_384KB", "Dedicated_Sram_512KB")
_MEMORIES = {
    "ethos-u55": ("Shared_Sram", "Sram_Only"),
    "ethos-u65": (*_DEDICATED, "Shared_Sram", "Sram_Only"),
    "ethos-u85": (*_DEDICATED, "Shared_Sram", "Sram_Only"),
}
"""Memory modes of that file, the default first. An Ethos-U55 cannot write to the memory beside its SRAM, so that it has
none of the modes with a dedicated SRAM."""

_ACCELERATORS = {
    "ethos-u55": (32, 64, 128, 256),
    "ethos-u65": (256, 512),
    "ethos-u85": (128, 256, 512, 1024, 2048),
}
"""Multiply-accumulate units a family is built with."""

_USUAL = 256
"""What every family is built with, and Vela's default."""

PRESETS = tuple(
    name for family, sizes in _ACCELERATORS.items() for name in (family, *(f"{family}-{units}" for units in sizes))
)
"""A family leaves the units open."""


def parse_ethos(backend: str, text: DeviceText) -> Device:
    """``npu:ethos-u85[-256][,memory=MODE]``.

    Raises:
        InvalidDevice: unknown option or memory mode.
    """
    family = _family(text.preset)
    limits = text.only("memory")
    if (memory := limits.get("memory")) is not None and memory not in _MEMORIES[family]:
        raise InvalidDevice(
            f"memory={memory[:40]} is no memory mode here", hint=f"modes: {' '.join(_MEMORIES[family])}"
        )
    facts = {"model": "vela", "system": _SYSTEMS[family][0]}
    return Device(backend, text.preset, tuple(facts.items()), tuple(limits.items()), label=f"estimated {text.preset}")


def choices(device: Device) -> tuple[Parameter, ...]:
    """What the device's text leaves open: ``accelerator``, its multiply-accumulate units, and the ``memory`` mode."""
    family = _family(device.preset)
    units = () if _units(device) else (Parameter("accelerator", _ACCELERATORS[family]),)
    modes = () if device.limit("memory", "") else (Parameter("memory", _MEMORIES[family]),)
    return *units, *modes


def textbook(device: Device) -> dict[str, Value]:
    """The usual system."""
    usual: dict[str, Value] = {"accelerator": _USUAL, "memory": _MEMORIES[_family(device.preset)][0]}
    return {parameter.name: usual[parameter.name] for parameter in choices(device)}


def configuration(device: Device, schedule: Schedule) -> tuple[str, str, str]:
    """Accelerator, system and memory mode, by Vela's names."""
    units = _units(device) or schedule["accelerator"]
    memory = device.limit("memory", "") or schedule["memory"]
    return f"{_family(device.preset)}-{units}", str(device.fact("system")), str(memory)


def peak(device: Device) -> float:
    """Operations a second of all multiply-accumulate units, of the most that the device may have."""
    family = _family(device.preset)
    return 2.0 * (_units(device) or _ACCELERATORS[family][-1]) * _SYSTEMS[family][1]


def _family(preset: str) -> str:
    return "-".join(preset.split("-")[:2])


def _units(device: Device) -> int:
    """The units a device's text names; 0 if it leaves them open."""
    return int("".join(device.preset.split("-")[2:]) or 0)
