"""Devices: what hardware there is, the text that selects it, and how fast it was measured to be."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import attrs

from fettle.backends.api.values import Pairs, sorted_pairs
from fettle.graph import codec
from fettle.graph.errors import InvalidDevice

_MOST_DIGITS = 18
"""Of an option: Python refuses to read numbers of thousands."""


@attrs.frozen
class Device:
    """One concrete piece of hardware. Two equal devices run the same kernels equally fast.

    Attributes:
        backend: name of the backend that drives it.
        preset: what follows the colon of a device text (``gddr6-aim``, ``sm_90``), or empty.
        facts: silicon facts: vendor, family, model, stepping, ISA features, cache sizes. Never measured values.
        limits: what the user restricted: threads, ISA level, refresh. Part of the identity.
        label: a human name; not part of the identity.
    """

    backend: str
    preset: str = ""
    facts: Pairs = attrs.field(default=(), converter=sorted_pairs)
    limits: Pairs = attrs.field(default=(), converter=sorted_pairs)
    label: str = attrs.field(default="", eq=False)

    def fact(self, name: str, default: Any = None) -> Any:
        """A silicon fact, or ``default``."""
        return dict(self.facts).get(name, default)

    def limit(self, name: str, default: Any = None) -> Any:
        """A limit, or ``default``."""
        return dict(self.limits).get(name, default)

    @cached_property
    def key(self) -> str:
        """256-bit identity in hexadecimal."""
        return codec.digest(("fettle.device", self.backend, self.preset, self.facts, self.limits))

    def __str__(self) -> str:
        """The device text that selects it again on the same machine."""
        head = f"{self.backend}:{self.preset}" if self.preset else self.backend
        return ",".join([head, *(f"{name}={value}" for name, value in self.limits)])


@attrs.frozen
class DeviceText:
    """A parsed device text, ``backend[:preset][,key=value …]``."""

    backend: str
    preset: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, text: str) -> DeviceText:
        """Split a device text.

        Raises:
            InvalidDevice: malformed text or a repeated key.
        """
        if not isinstance(text, str):  # Python callers pass anything
            raise InvalidDevice(f"a device is a text, not {type(text).__name__}", hint="example: cpu,threads=1")
        head, *rest = text.split(",")
        backend, _, preset = head.partition(":")
        options: dict[str, str] = {}
        for part in rest:
            key, equals, value = part.partition("=")
            if not (key and equals and value) or key in options:
                raise InvalidDevice(
                    f"malformed option {part!r} in device {text!r}",
                    hint="a device is backend[:preset][,key=value …], e.g. cpu,threads=1",
                )
            options[key] = value
        if not backend:
            raise InvalidDevice(f"device {text!r} names no backend", hint="example: cpu,threads=1")
        return cls(backend, preset, tuple(sorted(options.items())))

    def only(self, *names: str) -> dict[str, str]:
        """The options, if there are none but these.

        Raises:
            InvalidDevice: another option.
        """
        for name, _ in self.options:
            if name not in names:
                device = f"{self.backend}:{self.preset}" if self.preset else self.backend
                hint = f"options: {' '.join(names)}" if names else "it has no options"
                raise InvalidDevice(f"device {device} has no option {name!r}", hint=hint)
        return dict(self.options)

    def whole_number(self, name: str, low: int, high: int, default: int) -> int:
        """The value of an option that is a whole number, or ``default`` if the text leaves it out.

        Raises:
            InvalidDevice: no whole number in low … high.
        """
        text = dict(self.options).get(name)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS and low <= int(text) <= high):
            raise InvalidDevice(f"{name}={text[:32]} is not a whole number between {low} and {high}")
        return int(text)


@attrs.frozen
class Roof:
    """One measured limit of a device.

    Attributes:
        name: what was measured: ``read:L2``, ``copy:dram``, ``peak:f32``, ``clock:f16``.
        value: bytes per second for ``read:*`` and ``copy:*``, operations per second for ``peak:*``, cycles per second
            (under the load of that peak) for ``clock:*``.
        threads: how many threads ran.
        working_set: bytes touched (0 for peaks).
    """

    name: str
    value: float
    threads: int = 1
    working_set: int = 0


@attrs.frozen
class Profile:
    """The measured roofs of a device, taken once and stored. Not part of the device's identity.

    Attributes:
        missing: (name of a roof, why it could not be measured).
    """

    device_key: str
    roofs: tuple[Roof, ...]
    missing: tuple[tuple[str, str], ...] = ()

    def roof(self, name: str, threads: int) -> Roof | None:
        """The roof of that name for the most threads not above ``threads``, or None."""
        found = [r for r in self.roofs if r.name == name and r.threads <= threads]
        return max(found, key=lambda r: r.threads, default=None)
