"""``fettle devices`` and ``fettle backends``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from fettle.backends.registry import backend_names, get_backend, resolve_device, usable_backends
from fettle.cli.asjson import plain
from fettle.cli.options import JsonOption, StoreOption
from fettle.cli.output import print_json, print_table, stderr, stdout
from fettle.graph.errors import FettleError

if TYPE_CHECKING:
    from fettle.backends.api import Backend, Device, Profile

_UNITS = {"read": "GB/s", "copy": "GB/s", "clock": "GHz"}
"""Of roofs by the first word of their names; others are peaks."""


def devices(
    device: Annotated[str | None, typer.Argument(help="A device text; default: every device present.")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Measure roofs (takes seconds); store them.")] = False,
    store: StoreOption = None,
    json: JsonOption = False,
) -> None:
    """List devices with their identity; with --profile also their measured roofs.

    Examples: fettle devices · fettle devices cpu,threads=1 --profile
    """
    if device is not None:
        backend, one = resolve_device(device)
        found = [(backend, one)]
    else:
        found = []
        for backend in usable_backends():
            present, problem = _present(backend)
            found += [(backend, d) for d in present]
            if problem:
                stderr.print(f"{backend.name}: {problem}", highlight=False)
    profiles = _measured(found, store) if profile else {}
    if json:
        print_json({"devices": [_device_json(d, profiles.get(d.key)) for _, d in found]})
        return
    for _, d in found:
        stdout.print(_device_table(d, profiles.get(d.key)))


def _present(backend: Backend) -> tuple[Sequence[Device], str]:
    """The devices of a backend, and why there are none: one broken plugin does not hide the others' devices."""
    try:
        return backend.devices(), ""
    except Exception as error:
        return (), f"its devices cannot be listed: {type(error).__name__}: {error}"


def _measured(found: Sequence[tuple[Backend, Device]], store: str | None) -> dict[str, Profile]:
    """Measure and store the profile of each device; by the device's key."""
    from fettle.backends.host.executor import make_executor
    from fettle.store.open import open_store

    profiles = {}
    with open_store(store) as opened:
        for backend, device in found:
            stderr.print(f"measuring {device} …", highlight=False)
            with make_executor(backend, device) as executor:
                profiles[device.key] = executor.profile()
            opened.put_device(device)
            opened.put_profile(profiles[device.key])
    return profiles


def _device_json(device: Device, profile: Profile | None) -> dict[str, Any]:
    return {
        "device": str(device),
        "key": device.key,
        "backend": device.backend,
        "label": device.label,
        "facts": dict(device.facts),
        "limits": dict(device.limits),
        "roofs": None if profile is None else [plain(roof) for roof in profile.roofs],
        "missing_roofs": None if profile is None else dict(profile.missing),
    }


def _device_table(device: Device, profile: Profile | None) -> Table:
    table = Table(title=f"{device}  {device.label}", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # keys are copied
    for name, value in (*device.facts, *(("limit " + name, value) for name, value in device.limits)):
        table.add_row(name, str(value))
    table.add_row("key", device.key)
    for roof in () if profile is None else profile.roofs:
        unit = _UNITS.get(roof.name.split(":")[0], "Gop/s")
        table.add_row(f"{roof.name}, {roof.threads} thread(s)", f"{roof.value / 1e9:.4g} {unit}")
    for name, why in () if profile is None else profile.missing:
        table.add_row(f"{name}, not measured", why)
    return table


def backends(json: JsonOption = False) -> None:
    """List the installed backends (plugins of the entry-point group `fettle.backends`).

    Example: fettle backends
    """
    rows: list[tuple[str, str, list[str], str]] = []
    for name in backend_names():
        try:
            backend = get_backend(name)
            devices, problem = _present(backend)
            rows.append((name, type(backend).__module__, [str(device) for device in devices], problem))
        except FettleError as error:
            rows.append((name, "", [], str(error)))
    if json:
        print_json({"backends": [{"name": n, "module": m, "devices": d, "error": e or None} for n, m, d, e in rows]})
        return
    table = Table()
    for heading in ("backend", "module", "devices here"):
        table.add_column(heading)
    for name, module, present, problem in rows:
        table.add_row(name, module, problem or ", ".join(present) or "none")
    print_table(table, folded=("devices here",))
