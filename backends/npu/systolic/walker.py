"""Computes attention through the steps of its mapping, walk by walk, block by block."""

from __future__ import annotations

import numpy as np

from fettle.backends.npu.family import Array
from fettle.backends.npu.systolic.flash import MappedAttention, Step


def attend(mapped: MappedAttention, q: Array, k: Array, v: Array) -> Array:
    """One problem: ``q [rows, dim]`` against ``k, v [kv, dim]`` in f32, tile by tile and block by block."""
    out = np.empty((mapped.shape.rows, mapped.shape.dim), np.float32)
    state: _Walker = _Walker(mapped, q[:0], mapped.shape.kv)
    for step in mapped.steps():
        if step.first:
            state = _Walker(mapped, q[step.rows.start : step.rows.stop], mapped.shape.kv)
        block = mapped.schedule["block_kv"]
        for start in range(step.keys.start, step.keys.stop, block):
            keys = slice(start, min(start + block, step.keys.stop))
            state.block(step, keys, k[keys], v[keys])
        if step.last:
            out[step.rows.start : step.rows.stop] = state.result()
    return out


class _Walker:
    """Running tensors of one block of queries."""

    def __init__(self, mapped: MappedAttention, q: Array, kv: int) -> None:
        self._mapped = mapped
        self._q = q * np.float32(1.0 / np.sqrt(mapped.shape.dim))
        rows = len(q)
        self._top = np.full((rows, 1), -np.inf, np.float32)
        self._sum = np.zeros((rows, 1), np.float32)
        self._values = np.zeros((rows, mapped.shape.dim), np.float32)
        self._carried = np.zeros((rows, kv) if mapped.schedule["passes"] > 1 else (0, 0), np.float32)
        self._local: dict[int, Array] = {}

    def block(self, step: Step, keys: slice, k: Array, v: Array) -> None:
        """One block of keys in one walk."""
        passes = self._mapped.schedule["passes"]
        if step.walk == 1:
            logits = self._masked(self._q @ k.T, step, keys)
            top = logits.max(axis=1, keepdims=True)
            if passes == 1:
                self._online(logits, top, v)
            elif passes == 2:
                safe = np.where(np.isfinite(top), top, np.float32(0.0))
                self._local[keys.start] = top
                self._carried[:, keys] = np.exp(logits - safe)
                self._top = np.maximum(self._top, top)
            else:
                self._carried[:, keys] = logits
                self._top = np.maximum(self._top, top)
        elif passes == 2:
            weights = self._carried[:, keys] * np.exp(self._local[keys.start] - self._top)
            self._sum += weights.sum(axis=1, keepdims=True)
            self._values += weights @ v
        elif step.walk == 2:
            self._carried[:, keys] = np.exp(self._carried[:, keys] - self._top)
            self._sum += self._carried[:, keys].sum(axis=1, keepdims=True)
        else:
            self._values += (self._carried[:, keys] / self._sum) @ v

    def result(self) -> Array:
        """Of all keys seen."""
        return self._values if self._mapped.schedule["passes"] == 3 else self._values / self._sum

    def _online(self, logits: Array, top: Array, v: Array) -> None:
        above = np.maximum(self._top, top)
        safe = np.where(np.isfinite(above), above, np.float32(0.0))
        weights = np.exp(logits - safe)
        shrink = np.exp(self._top - safe)
        self._sum = self._sum * shrink + weights.sum(axis=1, keepdims=True)
        self._values = self._values * shrink + weights @ v
        self._top = above

    def _masked(self, logits: Array, step: Step, keys: slice) -> Array:
        shape = self._mapped.shape
        if shape.causal:
            last = shape.kv - shape.queries + np.arange(step.rows.start, step.rows.stop) % shape.queries
            logits[np.arange(keys.start, keys.stop) > last[:, None]] = -np.inf
        return logits
