"""The plugin contract is one name to import from, whatever file a class is in."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from fettle.backends import api


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
