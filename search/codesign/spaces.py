"""What is searched on which device: parameters of its text, combinations that make sense, and a proxy of its area."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from fettle.backends.api import Device, DeviceText
from fettle.backends.npu.systolic.hardware import PRESET, Systolic
from fettle.backends.pim.device import Hardware
from fettle.backends.pim.scaling import MIN_BUFFER_COLUMNS, square_millimetres
from fettle.backends.registry import get_backend
from fettle.graph.errors import InvalidArgument, Unsupported
from fettle.search.codesign import area

Values = Mapping[str, int | str]
"""Parameters of a design, by name."""


@attrs.frozen
class DesignSpace:
    """Devices of one preset.

    Attributes:
        choices: parameters that are searched, with their values.
        mm2: the area proxy of a device.
        sensible: whether a combination is worth a device text.
    """

    backend: str
    preset: str
    choices: Mapping[str, tuple[int | str, ...]]
    mm2: Callable[[Device], float]
    sensible: Callable[[Values], bool] = lambda values: True

    @property
    def name(self) -> str:
        """The device text of the preset."""
        return f"{self.backend}:{self.preset}"

    def device(self, values: Values) -> Device:
        """The device of a design.

        Raises:
            InvalidDevice: a value out of the range of its option.
        """
        options = tuple((name, str(value)) for name, value in sorted(values.items()))
        return get_backend(self.backend).device(DeviceText(self.backend, self.preset, options))


def _pim_area(device: Device) -> float:
    hardware = Hardware.of(device)
    if (rule := hardware.preset.scaling) is None:
        raise Unsupported(f"preset {device.preset} has no area")
    return square_millimetres(hardware.organisation, rule.area)


def _buffer_suffices(values: Values) -> bool:
    """The buffer holds the shortest chunk, columns of 16-bit lanes. What is no number is for the device to refuse."""
    buffer, lanes = values["buffer"], values["lanes"]
    return isinstance(buffer, str) or isinstance(lanes, str) or buffer >= MIN_BUFFER_COLUMNS * 2 * lanes


SYSTOLIC = DesignSpace(
    "npu",
    PRESET,
    {
        "rows": (8, 16, 32, 64, 128, 256),
        "cols": (8, 16, 32, 64, 128, 256),
        "sram": (64, 128, 256, 512, 1024, 2048, 4096),
        "bandwidth": (16, 32, 64, 128, 256),
        "vector": (32, 64, 128, 256),
        "mesh": ("1x1", "1x2", "2x2", "2x4"),
    },
    lambda device: area.square_millimetres(Systolic.of(device)),
)
"""``bandwidth`` costs no area here, so it is worth fixing."""

AIM = DesignSpace(
    "pim",
    "gddr6-aim",
    {
        "channels": (4, 8, 16, 32, 64),
        "banks": (4, 8, 16, 32),
        "lanes": (8, 16, 32, 64),
        "buffer": (256, 512, 1024, 2048, 4096, 8192),
    },
    _pim_area,
    _buffer_suffices,
)
"""A bank is the preset's, so that more of them are more memory, and area."""

SPACES: Mapping[str, DesignSpace] = {space.name: space for space in (SYSTOLIC, AIM)}


def design_space(text: str) -> DesignSpace:
    """The designs that a device text without options stands for.

    Raises:
        InvalidArgument: none are searched.
    """
    if text not in SPACES:
        raise InvalidArgument(
            f"no designs of {text[:64]!r} are searched", hint=f"devices: {' '.join(SPACES)}; --fix gives parameters"
        )
    return SPACES[text]
