"""Keeps clients from naming any file of the server's machine as a replay device."""

from __future__ import annotations

import os
from pathlib import Path

from fettle.backends.api import Backend, Device, DeviceText
from fettle.graph.errors import InvalidDevice, NotFound, Unsupported
from fettle.service.tuning import Resolve

_REPLAY = "replay"


def within_root(resolve: Resolve, root: Path | None) -> Resolve:
    """``resolve``, but a replay device's file must lie under ``root``; links are followed before the comparison.

    The resolver raises, besides what ``resolve`` does:
        Unsupported: there is no root.
        InvalidDevice: the path is not absolute, or leads elsewhere.

    Raises:
        NotFound: the root is no folder.
    """
    if root is not None and not root.is_dir():
        raise NotFound(f"the replay root {root} is no folder")
    real_root = None if root is None else Path(os.path.realpath(root))

    def resolve_within(text: str) -> tuple[Backend, Device]:
        parsed = DeviceText.parse(text)
        if parsed.backend != _REPLAY:
            return resolve(text)
        if real_root is None:
            raise Unsupported("this server replays no recordings", hint="start it with --replay-root DIR")
        path = Path(parsed.preset)
        if not path.is_absolute() or "\0" in parsed.preset:
            raise InvalidDevice(f"a server needs the absolute path of a recording, not {parsed.preset[:200]!r}")
        real = Path(os.path.realpath(path))
        if not real.is_relative_to(real_root):
            raise InvalidDevice(f"the recording {parsed.preset} is not under the server's replay root")
        return resolve(f"{_REPLAY}:{real}" if not parsed.options and "," not in str(real) else text)

    return resolve_within
