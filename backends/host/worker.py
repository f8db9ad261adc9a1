"""The program of a worker process: ``python -m fettle.backends.host.worker SOCKET LIFELINE`` (descriptors).

It imports nothing heavy before it is sure to die with its host.
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import os
import resource
import select
import signal
import sys
from pathlib import Path
from typing import Any, cast


def main() -> None:
    """Set the process up, then serve requests until the host closes the socket."""
    socket_descriptor, lifeline = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(socket_descriptor, False)  # compilers that a backend starts must not hold them open
    os.set_inheritable(lifeline, False)
    die_with_host(lifeline)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Should memory run out all the same, the system is to take a worker, not the service.
    with contextlib.suppress(OSError):  # a sandbox may forbid it
        Path("/proc/self/oom_score_adj").write_text("1000")
    faulthandler.enable(all_threads=False)
    # torch costs seconds and hundreds of megabytes wherever a library merely asks whether it is there
    cast(dict[str, Any], sys.modules)["torch"] = None

    from fettle.backends.host.serve import serve

    serve(socket_descriptor)


def die_with_host(lifeline: int) -> None:
    """Have the kernel kill this process group when the write end of the pipe closes, however the host dies.

    Unlike PR_SET_PDEATHSIG this does not fire when the *thread* that started the worker ends, and unlike a
    thread that waits for end of file it needs no interpreter lock, which a hanging kernel may hold.
    """
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)
    poll = select.poll()
    poll.register(lifeline, 0)
    if poll.poll(0):  # the host died before the line above
        os.killpg(os.getpgrp(), signal.SIGKILL)


if __name__ == "__main__":
    main()
