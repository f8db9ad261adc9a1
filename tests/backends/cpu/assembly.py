"""Reading emitted assembly."""

from __future__ import annotations

import re
from collections.abc import Sequence

_SPILL = re.compile(r"vmov\w+\s+%[yz]mm\d+, -?\d*\(%rsp\)")
"""A vector register stored at a constant place of the stack."""


def inner_loops(text: str) -> list[list[str]]:
    """Instructions of every loop that contains no other loop."""
    lines = text.replace("{vex}\t", "").replace("{vex} ", "").splitlines()
    labels = {m[1]: i for i, line in enumerate(lines) if (m := re.match(r"(\.LBB\w+):", line))}
    loops = set()
    for i, line in enumerate(lines):
        jump = re.match(r"\s+j\w+\s+(\.LBB\w+)", line)
        if jump and labels.get(jump[1], i) < i:
            loops.add((labels[jump[1]], i))
    innermost = [a for a in loops if not any(b != a and a[0] <= b[0] and b[1] <= a[1] for b in loops)]
    return [[s.strip() for s in lines[a : b + 1] if re.match(r"\t[a-z]", s)] for a, b in sorted(innermost)]


def hot_loops(text: str, instruction: str, least: int = 4) -> list[list[str]]:
    """The inner loops with at least so many of an instruction."""
    return [loop for loop in inner_loops(text) if sum(line.startswith(instruction) for line in loop) >= least]


def spills(loop: Sequence[str]) -> list[str]:
    """Instructions that store a vector register on the stack."""
    return [line for line in loop if _SPILL.match(line)]


def calls(loop: Sequence[str]) -> list[str]:
    """Instructions that call a function."""
    return [line for line in loop if line.startswith("call")]
