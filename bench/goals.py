"""What the CPU backend must reach: every line of ``fettle bench cpu``, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import attrs

SHAPES = {"A": (4096, 4096), "B": (11008, 4096), "C": (4096, 11008), "D": (3200, 3200), "E": (8640, 3200)}
"""N, K of common decoder layers."""

OF_ROOF = 0.9
"""Share of the roof, measured in the same run, that a matrix-vector product must reach: it is memory-bound."""


@attrs.frozen
class Case:
    """One workload of a goal.

    Attributes:
        label: the short name of the shape.
        workload: its text.
        rival: text of a workload of ours to compare with; empty if there is none.
    """

    label: str
    workload: str
    rival: str = ""


@attrs.frozen
class Goal:
    """One line of the table.

    Attributes:
        group: what ``--only`` selects.
        peers: names of :data:`fettle.bench.peers.PEERS`; the ratio is to the fastest of them.
        target: largest geometric mean of ours / peer over the cases; None if nothing is asked.
        hope: the ratio aimed at beyond the target, or None.
        of_roof: least share of the roof that every case must reach, or None.
    """

    name: str
    group: str
    cases: tuple[Case, ...]
    peers: tuple[str, ...]
    target: float | None = None
    hope: float | None = None
    of_roof: float | None = None


def gemv(weight: str, shapes: Sequence[str], target: float | None = None) -> Goal:
    """Matrix-vector products of one format beside peers."""
    cases = tuple(Case(shape, _quantised(1, shape, weight)) for shape in shapes)
    peers = ("onnxruntime MatMulNBits", "torch int4pack")
    return Goal(f"GEMV {weight}", "gemv", cases, peers, target, of_roof=OF_ROOF)


def _gemv(shapes: Sequence[str]) -> Iterator[Goal]:
    yield gemv("u4:128", shapes, 0.90)
    yield gemv("u2:128", shapes, 0.70)
    for weight, target in (("bip1:128", 0.35), ("u3:128", 0.80), ("tern:128", 0.45)):
        cases = tuple(Case(s, _quantised(1, s, weight), _quantised(1, s, "u4:128")) for s in shapes)
        yield Goal(f"GEMV {weight}", "gemv", cases, (), target, of_roof=OF_ROOF)


def _gemm(shapes: Sequence[str]) -> Iterator[Goal]:
    for m, target, hope in ((8, 0.75, None), (32, 1.15, 1.0), (128, 1.5, 1.0)):
        cases = tuple(Case(shape, _quantised(m, shape, "u4:128")) for shape in shapes)
        yield Goal(f"GEMM u4:128 M={m}", "gemm", cases, ("torch int8",), target, hope)


def _dense(shapes: Sequence[str]) -> Iterator[Goal]:
    f32 = (
        Case("1024³", "matmul m=1024 n=1024 k=1024 act=f32 rhs=f32"),
        Case("128x4096x4096", "matmul m=128 n=4096 k=4096 act=f32 rhs=f32"),
        Case("conv 56x56x64", "conv2d n=1 c=64 h=56 w=56 oc=64 kh=3 kw=3 stride=1 pad=1 act=f32 weight=f32"),
    )
    yield Goal("f32 matmul, conv2d", "dense", f32, ("torch mm", "torch conv2d"), 1.15, 1.0)
    bf16 = (Case("1024³", "matmul m=1024 n=1024 k=1024 act=bf16 rhs=bf16"),)
    yield Goal("bf16 matmul", "dense", bf16, ("torch mm",), 1.1)


def _softmax(shapes: Sequence[str]) -> Iterator[Goal]:
    sizes = ((128, 32000), (4096, 4096))
    cases = tuple(Case(f"{rows}x{cols}", f"softmax rows={rows} cols={cols} act=f32") for rows, cols in sizes)
    yield Goal("softmax f32", "softmax", cases, ("torch softmax",), 0.65)


def _attention(shapes: Sequence[str]) -> Iterator[Goal]:
    text = "attention batch=1 heads=32 kv_heads=8 {} dim=128 act=bf16 kvcache=bf16 causal=true"
    decode, prefill = Case("KV=4096", text.format("q=1 kv=4096")), Case("S=2048", text.format("q=2048 kv=2048"))
    yield Goal("decode attention bf16", "attention", (decode,), ("torch SDPA",), 0.5)
    yield Goal("prefill attention bf16", "attention", (prefill,), ("torch SDPA",), 0.6)


_MAKERS: dict[str, Callable[[Sequence[str]], Iterator[Goal]]] = {
    "gemv": _gemv,
    "gemm": _gemm,
    "dense": _dense,
    "softmax": _softmax,
    "attention": _attention,
}

GROUPS = tuple(_MAKERS)


def goals(groups: Sequence[str], shapes: Sequence[str]) -> tuple[Goal, ...]:
    """The goals of some :data:`GROUPS`; ``shapes`` are those of the quantised products."""
    return tuple(goal for group in GROUPS if group in groups for goal in _MAKERS[group](shapes))


def _quantised(m: int, shape: str, weight: str) -> str:
    n, k = SHAPES[shape]
    return f"matmul m={m} n={n} k={k} act=f32 weight={weight}"
