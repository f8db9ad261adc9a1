"""What an epilogue reads besides the product, as arguments of a launch (named as in ``templates/fused.py``)."""

from __future__ import annotations

from fettle.backends.triton.plan import ELEMENT, Argument
from fettle.graph.workload import Workload


def epilogue_arguments(workload: Workload, inputs: int, packed: int) -> list[Argument]:
    """Its rows, then its operands of the result's shape.

    Args:
        inputs, packed: how many arrays of either kind the product has.
    """
    found = []
    for tensor in workload.operands[2:]:
        if tensor.constant:
            found.append(Argument(f"{tensor.name}_ptr", f"*{ELEMENT[tensor.format.kind]}", f"packed:{packed}"))
            packed += 1
        else:
            name = f"d{tensor.name.removeprefix('x')}_ptr"
            found.append(Argument(name, f"*{ELEMENT[tensor.format.kind]}", f"input:{inputs}"))
            inputs += 1
    return found


def epilogue_bytes(workload: Workload) -> float:
    """Bytes that it reads."""
    return float(sum(tensor.nbytes for tensor in workload.operands[2:]))
