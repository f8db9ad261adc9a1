"""Attention as cascades of Einsums, and how often each must walk over the keys (FuseMax, 2406.10491).

An Einsum that reads a tensor without a rank of the keys, made by reducing over the keys, must wait until that walk is
over; if it has a rank of the keys itself, it walks over them again. A tensor with such a rank that is read in a later
walk than the one that made it is *carried* from walk to walk: kept on the chip, or spilled.
"""

from __future__ import annotations

import attrs

KEYS = frozenset({"m", "m1", "m0"})
"""Ranks over the keys: m is cut into m1 blocks of m0."""

EXP = 8
"""Elementary operations of an exponential: range reduction and a polynomial."""


@attrs.frozen
class Tensor:
    """A name and its ranks. ``e``, ``f`` are the head's dimension, ``p`` the queries."""

    name: str
    ranks: frozenset[str]

    @classmethod
    def of(cls, text: str) -> Tensor:
        """``QK[m1,m0,p]``."""
        name, _, ranks = text.rstrip("]").partition("[")
        return cls(name, frozenset(r.strip() for r in ranks.split(",") if r.strip()))


@attrs.frozen
class Einsum:
    """One step of a cascade.

    Attributes:
        output, inputs: tensors; a running tensor (``RM[m1,p]``) may be among its own inputs: it is one step behind.
        operations: elementary operations of the vector unit per point; 0 for products, which the array forms.
    """

    output: Tensor
    inputs: tuple[Tensor, ...]
    operations: int = 0

    @classmethod
    def of(cls, text: str, operations: int = 0) -> Einsum:
        """``GM[p] = QK[m,p]``: what is read, in any order, separated by ``*``."""
        output, _, inputs = text.partition("=")
        return cls(Tensor.of(output.strip()), tuple(Tensor.of(i.strip()) for i in inputs.split("*")), operations)

    @property
    def ranks(self) -> frozenset[str]:
        """Ranks it iterates over."""
        return self.output.ranks.union(*(i.ranks for i in self.inputs))

    @property
    def walks(self) -> bool:
        """Whether it iterates over the keys."""
        return bool(self.ranks & KEYS)


Cascade = tuple[Einsum, ...]

THREE_PASS: Cascade = (
    Einsum.of("QK[m,p] = Q[e,p] * K[e,m]"),
    Einsum.of("GM[p] = QK[m,p]", 1),
    Einsum.of("SN[m,p] = QK[m,p] * GM[p]", 1 + EXP),
    Einsum.of("SD[p] = SN[m,p]", 1),
    Einsum.of("A[m,p] = SN[m,p] * SD[p]", 1),
    Einsum.of("AV[f,p] = A[m,p] * V[f,m]"),
)

TWO_PASS: Cascade = (
    Einsum.of("QK[m1,m0,p] = Q[e,p] * K[e,m1,m0]"),
    Einsum.of("LM[m1,p] = QK[m1,m0,p]", 1),
    Einsum.of("SLN[m1,m0,p] = QK[m1,m0,p] * LM[m1,p]", 1 + EXP),
    Einsum.of("SLD[m1,p] = SLN[m1,m0,p]", 1),
    Einsum.of("GM[p] = LM[m1,p]", 1),
    Einsum.of("PM[m1,p] = LM[m1,p] * GM[p]", 1 + EXP),
    Einsum.of("SD[p] = SLD[m1,p] * PM[m1,p]", 2),
    Einsum.of("SN[m1,m0,p] = SLN[m1,m0,p] * PM[m1,p]", 1),
    Einsum.of("NV[f,p] = SN[m1,m0,p] * V[f,m1,m0]"),
    Einsum.of("AV[f,p] = NV[f,p] * SD[p]", 1),
)

ONE_PASS: Cascade = (
    Einsum.of("QK[m1,m0,p] = Q[e,p] * K[e,m1,m0]"),
    Einsum.of("LM[m1,p] = QK[m1,m0,p]", 1),
    Einsum.of("RM[m1,p] = RM[m1,p] * LM[m1,p]", 1),
    Einsum.of("SLN[m1,m0,p] = QK[m1,m0,p] * RM[m1,p]", 1 + EXP),
    Einsum.of("SLD[m1,p] = SLN[m1,m0,p]", 1),
    Einsum.of("PRM[m1,p] = RM[m1,p]", 1 + EXP),
    Einsum.of("RD[m1,p] = RD[m1,p] * SLD[m1,p] * PRM[m1,p]", 2),
    Einsum.of("SLNV[f,m1,p] = SLN[m1,m0,p] * V[f,m1,m0]"),
    Einsum.of("RNV[f,m1,p] = RNV[f,m1,p] * SLNV[f,m1,p] * PRM[m1,p]", 2),
    Einsum.of("AV[f,p] = RNV[f,p] * RD[p]", 1),
)
"""``RNV[f,p]`` and ``RD[p]`` are the running tensors after their last step."""

CASCADES = {1: ONE_PASS, 2: TWO_PASS, 3: THREE_PASS}


def walks(cascade: Cascade) -> dict[str, int]:
    """The walk over the keys, from 1, in which each tensor of a cascade is made (after it, if it has no such rank)."""
    made: dict[str, int] = {}
    for einsum in cascade:
        walk = 1
        for tensor in einsum.inputs:
            if tensor.name in made:
                finished = einsum.walks and not tensor.ranks & KEYS
                walk = max(walk, made[tensor.name] + finished)
        made[einsum.output.name] = walk
    return made


def passes(cascade: Cascade) -> int:
    """How often a cascade walks over the keys."""
    made = walks(cascade)
    return max(made[einsum.output.name] for einsum in cascade if einsum.walks)


def carried(cascade: Cascade) -> tuple[tuple[str, int, int], ...]:
    """Tensors with one value per query and key that are carried: name, walk that made it, last walk that reads it."""
    made = walks(cascade)
    last: dict[str, int] = {}
    full = {e.output.name for e in cascade if e.output.ranks >= {"m", "p"} or e.output.ranks >= {"m1", "m0", "p"}}
    for einsum in cascade:
        for tensor in einsum.inputs:
            if tensor.name in full:
                last[tensor.name] = max(last.get(tensor.name, 0), made[einsum.output.name])
    return tuple((name, made[name], walk) for name, walk in last.items() if walk > made[name])


def read_in(cascade: Cascade, name: str) -> int:
    """The walk in which an input (``K``, ``V``) is read."""
    made = walks(cascade)
    return max(made[e.output.name] for e in cascade if any(i.name == name for i in e.inputs))


def operations(cascade: Cascade, walk: int, sizes: dict[str, int]) -> int:
    """Elementary operations of the vector unit in one walk; ``sizes`` are of the ranks, m = m1·m0."""
    made = walks(cascade)
    total = 0
    for einsum in cascade:
        if made[einsum.output.name] == walk and einsum.walks:
            points = einsum.operations
            for rank in einsum.ranks:
                points *= sizes[rank]
            total += points
    return total
