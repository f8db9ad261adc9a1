"""Scaled dot-product attention over a cache of keys and values, with grouped queries."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fettle.graph.errors import InvalidWorkload
from fettle.graph.formats import F32, PER_ROW, Format
from fettle.graph.operators.base import (
    CONFIDENCE,
    ROUNDING,
    UNIT_ROUNDOFF,
    Field,
    Flag,
    Operator,
    Reference,
    choice,
    extent,
    flag,
    positive_float,
    shape,
    storing,
)
from fettle.graph.patterns import Pattern
from fettle.graph.quantized import Operand
from fettle.graph.tensors import TensorSpec

_ROW_BLOCK = 512


def cache_format(text: str) -> Format:
    """f32, bf16, f16, or 8-, 4- or 2-bit codes with f32 scales: ``u8:64/f32``."""
    value = Format.parse(text)
    if value.kind in ("f32", "bf16", "f16"):
        return value
    plain = value.is_quantised and value.group != PER_ROW and not value.zero_points and value.scale == "f32"
    if value.kind not in ("u8", "u4", "u2") or not plain:
        raise InvalidWorkload(f"{text!r} is no format of a cache", hint="f32, bf16, f16, or as u8:64/f32 and u4:32/f32")
    return value


class Attention(Operator):
    """``y[b,h,i] = Σ_j p[j] · v[b,g,j]`` with ``p = softmax_j(scale·q[b,h,i]·k[b,g,j])``, ``g = h·kv_heads/heads``.

    The heads of one group of ``heads / kv_heads`` share keys and values. ``causal`` aligns the queries with the
    end of the keys: query i sees the keys j ≤ kv - q + i. ``pattern`` leaves out blocks of keys
    (:mod:`fettle.graph.patterns`), with queries at the same positions. ``mask=1x1x8x64`` is the shape of a last
    operand in f32, which is broadcast to ``[batch, heads, q, kv]`` and added to the logits: 0 for keys that are seen,
    -inf for others, or any bias. A query that sees no key at all gives 0. ``scale`` is 1 / √dim by default.
    Where ``act`` is bf16 or f16, probabilities may be rounded to it before they meet the values, and so may elements
    of a quantised cache once they are numbers.

    A quantised cache (``kvcache=u8:64/f32``; KIVI, 2402.02750) holds codes, and an element is
    ``code · scale + zero``: of keys per channel and group of that many positions, of values per position. Two
    4-bit codes, or four 2-bit ones, share a byte, earlier elements in its lower bits.
    """

    name: ClassVar[str] = "attention"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("batch", extent, default=lambda v: 1),
        Field("heads", extent),
        Field("kv_heads", extent, default=lambda v: v["heads"]),
        Field("q", extent),
        Field("kv", extent),
        Field("dim", extent),
        Field("act", choice("f32", "bf16", "f16")),
        Field("kvcache", cache_format, default=lambda v: v["act"]),
        Field("causal", flag, default=lambda v: Flag(0)),
        Field("pattern", Pattern.parse, optional=True),
        Field("scale", positive_float, default=lambda v: 1.0 / math.sqrt(v["dim"])),
        Field("mask", shape, optional=True),
    )

    def check(self, values: Mapping[str, Any]) -> None:
        if values["heads"] % values["kv_heads"]:
            raise InvalidWorkload(f"heads={values['heads']} is no multiple of kv_heads={values['kv_heads']}")
        bits = values["kvcache"].bits
        if values["kvcache"].is_quantised and values["dim"] * bits % 8:
            raise InvalidWorkload(f"{8 // bits} {bits}-bit codes share a byte: dim={values['dim']} is no multiple")
        if values["causal"] and values["kv"] < values["q"]:
            raise InvalidWorkload("with causal=true and fewer keys than queries, some queries see no key")
        if values["pattern"] is not None and values["kv"] < values["q"]:
            raise InvalidWorkload("with a pattern and fewer keys than queries, some queries have no position")
        if values["mask"] is not None:
            most = (values["batch"], values["heads"], values["q"])
            *lead, kv = values["mask"]
            if len(lead) != 3 or kv != values["kv"] or any(a not in (1, b) for a, b in zip(lead, most, strict=False)):
                raise InvalidWorkload(
                    f"mask={values['mask']} is not broadcast to the logits",
                    hint=f"each of the first three extents is 1 or as in {'x'.join(map(str, (*most, values['kv'])))}",
                )

    def operands(self, values: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        batch, heads, kv_heads, dim = values["batch"], values["heads"], values["kv_heads"], values["dim"]
        cache: Format = values["kvcache"]
        mask = () if values["mask"] is None else (TensorSpec("mask", tuple(values["mask"]), F32),)
        q = TensorSpec("q", (batch, heads, values["q"], dim), values["act"])
        if cache.group is None:
            rows = (batch, kv_heads, values["kv"], dim)
            return q, TensorSpec("k", rows, cache), TensorSpec("v", rows, cache), *mask
        codes = (batch, kv_heads, values["kv"], dim * cache.bits // 8)
        per_channel, per_position = (
            (batch, kv_heads, cache.groups(values["kv"]), dim),
            (batch, kv_heads, values["kv"], 1),
        )
        return (
            q,
            TensorSpec("k", codes, Format("u8")),
            TensorSpec("k_scale", per_channel, F32),
            TensorSpec("k_zero", per_channel, F32),
            TensorSpec("v", codes, Format("u8")),
            TensorSpec("v_scale", per_position, F32),
            TensorSpec("v_zero", per_position, F32),
            *mask,
        )

    def result(self, values: Mapping[str, Any]) -> TensorSpec:
        return TensorSpec("y", (values["batch"], values["heads"], values["q"], values["dim"]), values["act"])

    def flops(self, values: Mapping[str, Any]) -> int:
        """Four per visible pair of query and key and element of ``dim``: two products; exponentials are not counted."""
        q, kv = values["q"], values["kv"]
        pairs = q * (kv - q) + q * (q + 1) // 2 if values["causal"] else q * kv
        if values["pattern"] is not None:
            rows = (np.arange(start, min(start + _ROW_BLOCK, q)) for start in range(0, q, _ROW_BLOCK))
            pairs = sum(int(np.count_nonzero(~np.asarray(hidden_keys(values, block)))) for block in rows)
        return int(4 * values["batch"] * values["heads"] * values["dim"] * pairs)

    def sample(self, values: Mapping[str, Any], tensor: TensorSpec, rng: np.random.Generator) -> Operand:
        """Standard normal keys and values; queries, hence logits, of deviation 3: few keys carry most of the weight.

        A mask hides a quarter of the keys, and is standard normal elsewhere.
        """
        if tensor.name == "mask":
            bias = rng.standard_normal(tensor.shape, np.float32)
            return np.where(rng.random(tensor.shape) < 0.25, np.float32(-np.inf), bias)
        if not tensor.format.is_float:
            return rng.integers(0, 256, tensor.shape, np.uint8)
        if tensor.name.endswith(("_scale", "_zero")):  # codes spread evenly become values of deviation 1
            middle = (values["kvcache"].levels - 1) / 2.0
            spread = np.float32(1.0 if tensor.name.endswith("_scale") else -middle) / np.float32(middle / np.sqrt(3.0))
            return (0.5 + rng.random(tensor.shape, np.float32)) * spread
        data = rng.standard_normal(tensor.shape, np.float32)
        return (data * np.float32(3.0 if tensor.name == "q" else 1.0)).astype(tensor.format.dtype)

    def reference(self, values: Mapping[str, Any], operands: Sequence[Operand]) -> Reference:
        """float64, with the tolerance (p the probabilities, s = scale·q·k + mask, u = 2^-24, λ = ``CONFIDENCE``)::

            Σ_j p_j·E_j·(|v_j| + |y|)              E_j = u·(c + 2·|s_j - max s| + 2λ√kv + λ√dim·‖q‖·‖k_j‖·scale + m)
          + λ·ρ·√(Σ p_j²·v_j²)                     ρ = 2^-9 for bf16, 2^-12 for f16: probabilities rounded
          + λ·ρ·√(Σ p_j²·(v_j² + 2(v_j² + y²)·‖q ∘ k_j‖²/dim))    quantised cache only: its numbers rounded
          + r·|y|                                  r: roundoff of the result's format
          + 2^-125·(1 + Σ_j |v_j|)                 probabilities that a kernel may flush to zero; f16: 2^-24 instead

        E_j is what may be wrong with the weight of key j, relatively: c for the exponential and the division
        (16; 64 for bf16 and f16), the rounding of its argument, the sums over keys, and the sum over ``dim`` in the
        logit, with Σ|q||k| bounded by the norms; m = 2·|s_j| where a mask was added, else 0. An error common to all
        weights cancels, hence |v_j| + |y|.
        Of a quantised cache, |k| and |v| stand for |code·scale| + |zero|: what may be rounded before it cancels.
        """
        q = np.asarray(operands[0]).astype(np.float64)
        if values["mask"] is None:
            mask = np.zeros((1, 1, 1, 1))
        else:
            *operands, last = operands
            mask = np.asarray(last).astype(np.float64)
        mask = np.broadcast_to(mask, (*q.shape[:3], values["kv"]))
        half = (len(operands) + 1) // 2
        k, key_sizes = plain_cache(values, [np.asarray(o) for o in operands[1:half]])
        v, value_sizes = plain_cache(values, [np.asarray(o) for o in operands[half:]])
        expected, tolerance = np.empty(q.shape), np.empty(q.shape)
        group = values["heads"] // values["kv_heads"]
        for b in range(values["batch"]):
            for head in range(values["heads"]):
                at = b, head // group
                cache = (k[at], key_sizes[at], v[at], value_sizes[at])
                for start in range(0, values["q"], _ROW_BLOCK):
                    rows = slice(start, min(start + _ROW_BLOCK, values["q"]))
                    hidden = hidden_keys(values, np.arange(rows.start, rows.stop))
                    result = _attend(values, q[b, head, rows], *cache, hidden, mask[b, head, rows])
                    expected[b, head, rows], tolerance[b, head, rows] = result
        return Reference(expected, tolerance)


def is_usual(values: Mapping[str, Any]) -> bool:
    """No mask among the operands, and logits scaled by 1 / √dim, as most hardware has it."""
    return values["mask"] is None and values["scale"] == 1.0 / math.sqrt(values["dim"])


def plain_cache(
    values: Mapping[str, Any], stored: Sequence[NDArray[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keys or values ``[batch, kv_heads, kv, dim]``, and the sizes of the summands they are made of."""
    cache: Format = values["kvcache"]
    if cache.group is None:
        plain = stored[0].astype(np.float64)
        return plain, np.abs(plain)
    codes, scale, zero = stored
    if cache.bits < 8:
        shifts = np.arange(0, 8, cache.bits, dtype=np.uint8)
        codes = ((codes[..., None] >> shifts) & np.uint8(cache.levels - 1)).reshape(*codes.shape[:-1], -1)
    if scale.shape[-1] > 1 or scale.shape[2] != values["kv"]:
        scale, zero = (np.repeat(x, cache.group, axis=2)[:, :, : values["kv"]] for x in (scale, zero))
    product = codes * scale.astype(np.float64)
    return product + zero, np.abs(product) + np.abs(zero)


def hidden_keys(values: Mapping[str, Any], queries: NDArray[np.int64]) -> NDArray[np.bool_] | None:
    """Keys that some queries do not see, ``[queries, kv]``; None if they see all."""
    positions, keys = values["kv"] - values["q"] + queries, np.arange(values["kv"])
    pattern: Pattern | None = values["pattern"]
    hidden = None if pattern is None else ~pattern.sees(positions, keys)
    if values["causal"]:
        later = np.asarray(keys > positions[:, None], np.bool_)
        return later if hidden is None else np.logical_or(hidden, later)
    return hidden


def _attend(
    values: Mapping[str, Any],
    q: NDArray[np.float64],
    k: NDArray[np.float64],
    key_sizes: NDArray[np.float64],
    v: NDArray[np.float64],
    value_sizes: NDArray[np.float64],
    hidden: NDArray[np.bool_] | None,
    mask: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Result and tolerance of some rows ``[rows, dim]``; ``hidden[rows, kv]`` are the keys a row does not see."""
    act, quantised, scale = values["act"].kind, values["kvcache"].is_quantised, values["scale"]
    kv, dim = k.shape
    logits = scale * (q @ k.T) + mask
    if hidden is not None:
        logits[hidden] = -np.inf
    seen = logits > -np.inf
    sizes_of_masked = np.where(seen & (mask != 0.0), np.abs(logits), 0.0)  # what rounding the sum with the mask costs
    logits -= np.maximum(logits.max(axis=1, keepdims=True), -np.finfo(np.float64).max)
    weights = np.exp(logits)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    expected = weights @ v
    relative = np.linalg.norm(q, axis=1)[:, None] * np.linalg.norm(key_sizes, axis=1) * CONFIDENCE
    relative *= scale * math.sqrt(dim)
    relative -= 2.0 * np.where(weights > 0.0, logits, 0.0)
    relative += 2.0 * sizes_of_masked
    relative += (16.0 if act == "f32" else 64.0) + 2.0 * CONFIDENCE * math.sqrt(kv)
    relative *= weights
    tolerance = UNIT_ROUNDOFF * (relative @ value_sizes + relative.sum(axis=1, keepdims=True) * np.abs(expected))
    rounding = ROUNDING.get(act, 0.0)
    variance = (weights * weights) @ (v * v)
    if quantised:
        sizes = key_sizes * key_sizes
        shares = weights * weights * ((q * q) @ sizes.T) * scale**2
        variance += (weights * weights) @ (value_sizes * value_sizes)
        variance += 2.0 * (shares @ (v * v) + shares.sum(axis=1, keepdims=True) * expected * expected)
    tolerance += CONFIDENCE * rounding * np.sqrt(variance)
    stored, smallest = storing(values["act"])
    tolerance += max(UNIT_ROUNDOFF, stored) * np.abs(expected) + smallest * (1.0 + value_sizes.sum(axis=0))
    return expected, tolerance
