"""The launch that adds the parts of a sum which several programs made."""

from __future__ import annotations

from fettle.backends.triton.plan import Argument, Launch, Work

_BLOCK = 1024


def finish(count: int, parts: int, out: str) -> Launch:
    """``out[i] = Σ_p parts[p, i]``; parts are the f32 of ``scratch:parts``, ``out`` is the result's pointer type."""
    return Launch(
        "sums:finish",
        (Argument("part_ptr", "*fp32", "scratch:parts"), Argument("out_ptr", out, "out")),
        (("COUNT", count), ("PARTS", parts), ("BLOCK", _BLOCK)),
        (-(-count // _BLOCK), 1, 1),
        Work(bytes=(4.0 * parts + 2) * count),
        stages=1,
    )
