"""A store in memory, for tests and for tuning without a trace. Gone when the process ends."""

from fettle.store.memory.store import MemoryStore as MemoryStore
