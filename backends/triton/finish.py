"""The launch that adds the parts of a sum which several programs made."""

from __future__ import annotations

from fettle.backends.triton.plan import Argument, Launch, Work

_BLOCK = 1024


def finish(count: int, parts: int, out: str, part: str = "fp32", dependent: bool = False) -> Launch:
    """``out[i] = Σ_p parts[p, i]``; parts are of type ``part`` in ``scratch:parts``, ``out`` is the result's type.

    ``dependent``: it begins while the parts' launch ends.
    """
    return Launch(
        "sums:finish",
        (Argument("part_ptr", f"*{part}", "scratch:parts"), Argument("out_ptr", f"*{out}", "out")),
        (("COUNT", count), ("PARTS", parts), ("BLOCK", _BLOCK), ("AWAITS", dependent)),
        (-(-count // _BLOCK), 1, 1),
        Work(bytes=(4.0 * parts + 2) * count),
        stages=1,
        dependent=dependent,
    )
