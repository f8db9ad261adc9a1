"""Backends that other packages bring."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import metadata

import pytest

from fettle.backends import registry
from fettle.graph.errors import NotFound, Unsupported

HOME = "tests.backends.host.fake_backend"


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Some entry points, as if packages with them were installed."""
    points = [
        metadata.EntryPoint(name, value, registry.GROUP)
        for name, value in (
            ("fake", f"{HOME}:FakeBackend"),
            ("alias", f"{HOME}:FakeBackend"),
            ("kernel", f"{HOME}:FakeKernel"),
            ("absent", "no_such_package:Backend"),
            ("string", "string:ascii_letters"),
        )
    ]
    monkeypatch.setattr(metadata, "entry_points", lambda group: points)
    registry.get_backend.cache_clear()
    yield
    registry.get_backend.cache_clear()


@pytest.mark.usefixtures("installed")
def test_registered_backend_is_found_by_name() -> None:
    assert registry.get_backend("fake").name == "fake"
    assert registry.backend_names() == ("absent", "alias", "fake", "kernel", "string")


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent", "no_such_package"),
        ("kernel", "cannot be loaded: TypeError"),
        ("string", "cannot be loaded: TypeError"),
        ("alias", "calls itself 'fake'"),
    ],
)
def test_entry_point_that_is_no_backend_of_its_name_says_what_it_is(name: str, reason: str) -> None:
    with pytest.raises(Unsupported, match=reason):
        registry.get_backend(name)


@pytest.mark.usefixtures("installed")
def test_usable_backends_leave_out_what_cannot_be_loaded() -> None:
    assert [backend.name for backend in registry.usable_backends()] == ["fake"]


@pytest.mark.usefixtures("installed")
def test_unknown_name_lists_what_is_installed() -> None:
    with pytest.raises(NotFound, match="installed backends: absent alias fake"):
        registry.get_backend("tpu")
