"""Recorded tuning spaces as devices: whoever measured every configuration once lets everybody search it for free."""

from fettle.backends.replay.backend import ReplayBackend

__all__ = ["ReplayBackend"]
