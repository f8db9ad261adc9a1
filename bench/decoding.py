"""PIM-GPT's table (2310.09385): one token of eight decoders on a memory that computes, beside stated baselines."""

from __future__ import annotations

import attrs

from fettle.search.placement.assign import exact
from fettle.search.placement.costs import CostTable, Link, Place, RooflinePlace
from fettle.search.placement.work import Work, decode, decoders, machines, pim_gpt_models

BASELINES = ("cpu", "gpu", "gpu-eager")
"""Machines of ``search/placement/data/machines.json``; all but the last are rooflines no real machine beats."""


@attrs.frozen
class Baseline:
    """A baseline's seconds and joules per token, and how many times those of the device they are."""

    name: str
    seconds: float
    joules: float
    speedup: float
    energy_ratio: float


@attrs.frozen
class DecodingRow:
    """One decoder; seconds and joules per token."""

    decoder: str
    parameters: int
    seconds: float
    joules: float | None
    baselines: tuple[Baseline, ...]


def row(name: str, places: tuple[Place, ...], context: int, link: Link) -> DecodingRow:
    """One decoder at one context, placed exactly over the places.

    Raises:
        Unsupported: they cannot run an operator.
    """
    shape = decoders()[name]
    work = decode(name, shape, 1, context)
    table = CostTable.ask(work, places, link)
    chosen = exact(table)
    seconds, joules = table.total(chosen), table.joules(chosen)
    baselines = []
    for baseline in BASELINES:
        time, energy = _alone(work, RooflinePlace(baseline), link)
        baselines.append(Baseline(baseline, time, energy, time / seconds, energy / joules if joules else float("nan")))
    return DecodingRow(name, shape.parameters, seconds, joules, tuple(baselines))


def _alone(work: Work, place: Place, link: Link) -> tuple[float, float]:
    table = CostTable.ask(work, (place,), link)
    assignment = (0,) * len(work.operators)
    return table.total(assignment), table.joules(assignment) or 0.0


def decoding_table(places: tuple[Place, ...], context: int) -> list[DecodingRow]:
    """All eight models."""
    return [row(name, places, context, Link.default()) for name in pim_gpt_models()]


def paper_ranges() -> dict[str, list[float]]:
    """What PIM-GPT reports over its measured T4 and Xeon."""
    return dict(machines()["papers"]["PIM-GPT"])
