"""How wrong a result is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fettle.backends.host.verify import compare
from fettle.graph import data
from fettle.graph.quantized import Operand
from fettle.graph.workload import Workload


def largest_error(workload: Workload, operands: Sequence[Operand], result: np.ndarray) -> float:
    """Against the float64 reference, in units of the declared tolerance; NaN counts as infinite."""
    _, ratio, _, _ = compare(result, data.reference(workload, operands))
    return ratio
