"""Presets of memories: one JSON file each, read by ``fettle.backends.pim.preset``."""
