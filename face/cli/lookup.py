"""``fettle lookup``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fettle.backends.api import Basis, Support
from fettle.backends.registry import resolve_device
from fettle.cli.asjson import kernel_json
from fettle.cli.options import CaOption, DeviceOption, JsonOption, ServerOption, StoreOption, TokenOption
from fettle.cli.output import DONE, NOT_FOUND, print_json, seconds, speedup, stdout
from fettle.cli.results import next_step
from fettle.graph.workload import Workload

if TYPE_CHECKING:
    from fettle.backends.api import Schedule
    from fettle.store.kernels import Kernel
    from fettle.store.lookup import LookupResult


def lookup(
    workload: Annotated[str, typer.Argument(help="A workload text.")],
    device: DeviceOption = "cpu",
    cold: Annotated[bool, typer.Option("--cold", help="The one for weights that no processor cache holds.")] = False,
    store: StoreOption = None,
    server: ServerOption = None,
    token: TokenOption = None,
    tls_ca: CaOption = None,
    json: JsonOption = False,
) -> None:
    """Find the cached kernel for a workload; a miss says which field differs. Exits with 3 on a miss.

    Example: fettle lookup "matmul m=1 n=4096 k=4096 act=f32 weight=u4:128" --device cpu,threads=1
    """
    wanted = Workload.parse(workload)
    mode = "cold" if cold else "hot"
    if server is not None:
        from fettle.service.client import connect

        with connect(server, token=token, tls_ca=tls_ca) as client:
            found = client.lookup(wanted, device, mode=mode)
    else:
        from fettle.store.lookup import lookup as find
        from fettle.store.open import open_store

        _, resolved = resolve_device(device)
        with open_store(store) as opened:
            found = find(opened, wanted, resolved, mode)
    match, default, support = found.match, None, Support.yes()
    if match == "none" and server is None:
        backend, resolved = resolve_device(device)
        support = backend.supports(wanted, resolved)
        if support:
            match, default = "default", backend.default(wanted, resolved)
    if json:
        print_json(_lookup_json(match, found, wanted, device, default))
    elif found.kernel is not None:
        _print_kernel(found.kernel)
        if server is None and found.kernel.basis is Basis.MEASURED:
            stdout.print(next_step(str(wanted), False, device, store=store, mode=mode), highlight=False, soft_wrap=True)
    else:
        _print_miss(wanted, found, default)
        if not support:
            stdout.print(f"  {device} cannot do it: {support.reason}", highlight=False)
        if default is not None or server is not None:
            options = {"--store": store, "--server": server, "--tls-ca": tls_ca}
            where = "".join(f" {name} {shlex.quote(str(value))}" for name, value in options.items() if value)
            command = f'fettle tune "{wanted}" --device {device}{" --cold" if cold else ""}{where}'
            stdout.print(f"to tune it: {command}", highlight=False, soft_wrap=True)
    raise typer.Exit(DONE if match in ("exact", "bucket") else NOT_FOUND)


def _lookup_json(
    match: str, found: LookupResult, wanted: Workload, device: str, default: Schedule | None
) -> dict[str, Any]:
    kernel = kernel_json(found.kernel) if found.kernel else None
    if default is not None:
        kernel = {"workload": str(wanted), "device": device, "schedule": default.as_dict()}
    misses = [{"field": m.field, "wanted": m.wanted, "nearest": m.nearest} for m in found.misses]
    return {"match": match, "key": found.key, "kernel": kernel, "miss": misses}


def _print_kernel(k: Kernel) -> None:
    stdout.print(f"{k.workload} on {k.device.label or k.device}", highlight=False)
    stdout.print(f"  {seconds(k.best_s)}, {speedup(k.default_s, k.best_s)} the default, verified", highlight=False)
    stdout.print(f"  schedule: {k.schedule}", highlight=False)
    stdout.print(f"  artifact: {k.artifact_sha256}", highlight=False)


def _print_miss(wanted: Workload, found: LookupResult, default: Schedule | None) -> None:
    stdout.print(f"no tuned kernel for {wanted}", highlight=False)
    for miss in found.misses:
        differs = f"{miss.field}: wanted {miss.wanted}, nearest {miss.nearest}"
        stdout.print(f"  {'the store has no kernels yet' if miss.field == 'store' else differs}", highlight=False)
    if default is not None:
        stdout.print(f"  the default schedule would be used: {default}", highlight=False)
