"""A server process for tests that kill it: ``python steps_server.py LISTEN STORE TRIALS``.

Each trial takes a moment and is stored, so that a test can kill the process in the middle of a job.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from fettle.service.logs import configure_logging
from fettle.service.server import Server, ServerOptions, serve_until_signal
from fettle.store.open import open_store
from tests.service.paper import Steps, resolve_paper


class SlowPermits:
    """A semaphore that grants a trial every 20 milliseconds."""

    def acquire(self, timeout: float) -> bool:
        time.sleep(2 * timeout)
        return True


def main() -> None:
    """Print ``listening HOST:PORT``, serve until a signal."""
    listen, url, trials = sys.argv[1:]
    configure_logging()  # stdout is for the address
    steps = Steps(int(trials))
    steps.gated = True
    steps.permits = SlowPermits()  # type: ignore[assignment]
    options = ServerOptions(listen, grace=1.0, pause_grace=5.0)
    with open_store(url) as store:
        server = Server(store, steps, resolve=resolve_paper, options=options)
        asyncio.run(serve_until_signal(server, lambda address: print(f"listening {address}", flush=True)))


if __name__ == "__main__":
    main()
