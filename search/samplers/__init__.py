"""Samplers propose points of a space, given how the points tried so far turned out.

``base.py`` is the interface; ``guided.py`` is ours and the default; the others are there to be compared with.
"""

from __future__ import annotations

from collections.abc import Mapping

from fettle.graph.errors import InvalidArgument
from fettle.search.samplers.base import Observation, Problem, Proposal, Sampler, SamplerFactory

DEFAULT = "guided"


def _guided(problem: Problem, seed: int) -> Sampler:
    from fettle.search.samplers.guided import GuidedSampler

    return GuidedSampler(problem, seed)


def _random(problem: Problem, seed: int) -> Sampler:
    from fettle.search.samplers.uniform import RandomSampler

    return RandomSampler(problem, seed)


def _tpe(problem: Problem, seed: int) -> Sampler:
    from fettle.search.samplers.optunas import TpeSampler

    return TpeSampler(problem, seed)


def _gp(problem: Problem, seed: int) -> Sampler:
    from fettle.search.samplers.optunas import GpSampler

    return GpSampler(problem, seed)


def _cmaes(problem: Problem, seed: int) -> Sampler:
    from fettle.search.samplers.optunas import CmaEsSampler

    return CmaEsSampler(problem, seed)


def _nsga2(problem: Problem, seed: int) -> Sampler:
    from fettle.search.samplers.optunas import Nsga2Sampler

    return Nsga2Sampler(problem, seed)


def _evolution(problem: Problem, seed: int) -> Sampler:
    from fettle.search.samplers.evolution import EvolutionarySampler

    return EvolutionarySampler(problem, seed)


def _local(problem: Problem, seed: int) -> Sampler:
    from fettle.search.samplers.local import LocalSampler

    return LocalSampler(problem, seed)


SAMPLERS: Mapping[str, SamplerFactory] = {
    DEFAULT: _guided,
    "random": _random,
    "tpe": _tpe,
    "gp": _gp,
    "cmaes": _cmaes,
    "nsga2": _nsga2,
    "evolution": _evolution,
    "local": _local,
}
"""By name, the default first."""


def make_sampler(name: str, problem: Problem, seed: int) -> Sampler:
    """The sampler of that name.

    Raises:
        InvalidArgument: there is none.
        Unsupported: it needs a package that is not installed.
    """
    if name not in SAMPLERS:
        raise InvalidArgument(f"no sampler named {name[:64]!r}", hint=f"samplers: {' '.join(SAMPLERS)}")
    return SAMPLERS[name](problem, seed)


__all__ = ["DEFAULT", "SAMPLERS", "Observation", "Problem", "Proposal", "Sampler", "SamplerFactory", "make_sampler"]
