"""``fettle serve``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fettle.cli.options import StoreOption


def serve(
    listen: Annotated[str, typer.Option("--listen", help="HOST:PORT; port 0 picks a free one.")] = "127.0.0.1:50151",
    store: StoreOption = None,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", help="PEM certificate chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", help="PEM private key.")] = None,
    tokens: Annotated[Path | None, typer.Option("--tokens", help="File of accepted bearer tokens, one a line.")] = None,
    replay_root: Annotated[
        Path | None,
        typer.Option("--replay-root", help="Folder of the recordings that clients may name; default: none."),
    ] = None,
) -> None:
    """Serve tuning and lookups over gRPC. Prints `listening HOST:PORT` once ready.

    Jobs left unfinished by an earlier server on the same store go on. SIGTERM pauses the running job.

    Example: fettle serve --listen 127.0.0.1:50151
    """
    from fettle.service.server import serve as serve_forever

    serve_forever(
        listen,
        store_url=store,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tokens=tokens,
        replay_root=replay_root,
        on_ready=lambda address: print(f"listening {address}", flush=True),
    )
