"""``fettle devices`` and ``fettle backends``."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table

from fettle.backends.registry import backend_names, get_backend, resolve_device, usable_backends
from fettle.cli.options import JsonOption, StoreOption
from fettle.cli.output import plain, print_json, stderr, stdout
from fettle.graph.errors import FettleError


def devices(
    device: Annotated[str | None, typer.Argument(help="A device text; default: every device present.")] = None,
    profile: Annotated[bool, typer.Option("--profile", help="Measure the roofs (seconds) and store them.")] = False,
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
        found = [(backend, d) for backend in usable_backends() for d in backend.devices()]
    roofs = {}
    if profile:
        from fettle.backends.host.executor import make_executor
        from fettle.store.open import open_store

        with open_store(store) as opened:
            for backend, d in found:
                stderr.print(f"measuring {d} …", highlight=False)
                with make_executor(backend, d) as executor:
                    roofs[d.key] = executor.profile()
                opened.put_device(d)
                opened.put_profile(roofs[d.key])
    if json:
        print_json(
            {
                "devices": [
                    {
                        "device": str(d),
                        "key": d.key,
                        "backend": d.backend,
                        "label": d.label,
                        "facts": dict(d.facts),
                        "limits": dict(d.limits),
                        "roofs": [plain(r) for r in roofs[d.key].roofs] if d.key in roofs else None,
                    }
                    for _, d in found
                ]
            }
        )
        return
    for _, d in found:
        table = Table(title=f"{d}  {d.label}", title_justify="left", show_header=False)
        for name, value in (*d.facts, *(("limit " + name, value) for name, value in d.limits)):
            table.add_row(name, str(value))
        table.add_row("key", d.key)
        if d.key in roofs:
            for roof in roofs[d.key].roofs:
                unit = "GB/s" if roof.name.startswith("read") else "Gop/s"
                table.add_row(f"{roof.name}, {roof.threads} thread(s)", f"{roof.value / 1e9:.4g} {unit}")
        stdout.print(table)


def backends(json: JsonOption = False) -> None:
    """List the installed backends (plugins of the entry-point group `fettle.backends`)."""
    rows = []
    for name in backend_names():
        try:
            backend = get_backend(name)
            rows.append((name, type(backend).__module__, [str(d) for d in backend.devices()], ""))
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
    stdout.print(table)
