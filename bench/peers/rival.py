"""One way to compute a workload, ready to be timed."""

from __future__ import annotations

from collections.abc import Callable

import attrs
import numpy as np


@attrs.frozen
class Effort:
    """What a search spent: trials, and seconds of wall time."""

    trials: int
    seconds: float


@attrs.frozen(eq=False)
class Rival:
    """A peer bound to its operands; weights are packed already.

    Attributes:
        name: what is called, for the table.
        call: computes; the result may stay wherever the peer leaves it.
        result: computes and returns the result as a float32 array in the workload's shape.
        bits_per_weight: stored bits per weight, scales included; None for dense weights and none.
        effort: what its search spent, if a search found it. Such a rival is timed in full, however slow.
    """

    name: str
    call: Callable[[], object]
    result: Callable[[], np.ndarray]
    bits_per_weight: float | None = None
    effort: Effort | None = None
