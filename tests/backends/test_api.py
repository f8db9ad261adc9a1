"""The plugin contract is one name to import from, whatever file a class is in."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

import pytest

from fettle.backends import api
from fettle.backends.api import WAITED, DeviceText, Measurement, MeasurePolicy, Outcome
from fettle.graph.errors import InvalidDevice


def test_every_class_of_the_contract_can_be_imported_from_its_package() -> None:
    declared = set()
    for found in pkgutil.iter_modules(api.__path__):
        module = importlib.import_module(f"{api.__name__}.{found.name}")
        classes = inspect.getmembers(module, inspect.isclass)
        declared |= {name for name, value in classes if value.__module__ == module.__name__}
    assert declared >= {"Backend", "Device", "Space", "Artifact", "Measurement", "Record"}
    assert declared <= set(api.__all__)


def test_a_backend_need_not_implement_more_than_what_is_declared_required() -> None:
    assert api.Backend.__abstractmethods__ == {
        "devices", "device", "supports", "space", "default", "features", "bound", "profile", "build", "load", "measure",
    }  # fmt: skip


def test_options_of_a_device_text_are_read_or_refused() -> None:
    text = DeviceText.parse("toy:x,cores=4,mode=fast")
    assert text.only("cores", "mode") == {"cores": "4", "mode": "fast"}
    assert text.whole_number("cores", 1, 8, default=2) == 4
    assert text.whole_number("lanes", 1, 8, default=2) == 2
    with pytest.raises(InvalidDevice, match=r"no option 'mode' \(options: cores\)"):
        text.only("cores")
    with pytest.raises(InvalidDevice, match="it has no options"):
        text.only()
    for value in ("0", "9", "four", "-1", "4.0", "٤", "1" * 5000):
        with pytest.raises(InvalidDevice, match="whole number between 1 and 8"):
            DeviceText.parse(f"toy,cores={value}").whole_number("cores", 1, 8, default=2)


def test_policy_samples_calls_that_last_long_enough() -> None:
    now, calls = 0.0, 0

    def call() -> None:
        nonlocal now, calls
        now, calls = now + 0.001, calls + 1

    samples = MeasurePolicy(warmup=3, min_sample=0.01, samples=4).sample(call, clock=lambda: now)
    assert samples == pytest.approx([0.001] * 4)
    assert calls >= 3 + 1 + 4 * 10
    assert len(MeasurePolicy(warmup=0, min_sample=0.0, samples=2).sample(call, clock=lambda: 0.0)) == 2


def part(samples: tuple[float, ...], energy: float | None = None, **counters: float | str) -> Measurement:
    return Measurement(Outcome.OK, samples, counters=tuple(counters.items()), energy=energy, objective=samples[0])


def test_parts_of_a_measurement_are_joined_by_their_samples() -> None:
    one, two = part((2.0,), 3.0, waited=0.4, copies=1, unit="A"), part((4.0, 6.0, 5.0), 7.0, waited=0.0, copies=1)
    joined = Measurement.joined([one, two])
    assert joined.samples == (2.0, 4.0, 6.0, 5.0)
    assert joined.energy == pytest.approx(6.0)
    assert joined.counters == (("copies", 1), (WAITED, pytest.approx(0.1)))
    assert joined.time == joined.median == 4.5, "what one part states is not true of all"
    assert Measurement.joined([one]) == one


def test_what_a_part_does_not_tell_the_whole_does_not() -> None:
    joined = Measurement.joined([part((1.0,), 3.0, waited=0.5), part((1.0,))])
    assert (joined.waited, joined.energy, joined.objective) == (None, None, 1.0)
