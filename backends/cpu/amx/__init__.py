"""Intel AMX: tile registers of 16 rows by 64 bytes, and what the families that use them have in common."""

from fettle.backends.cpu.amx.permission import permit

__all__ = ["permit"]
