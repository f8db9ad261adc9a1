"""Hypothesis for the whole suite: no deadlines (machines are busy); the same examples on every CI run."""

from __future__ import annotations

import os

from hypothesis import settings

settings.register_profile("fettle", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("fettle")
