"""What the makers of NumPy calls share: the call itself, a node's attributes, and values known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, helper

Call = Callable[[], object]
"""Writes the result into an array that was given before."""

Constants = Mapping[str, np.ndarray]
"""Values that never change, by name."""

Maker = Callable[[NodeProto, Sequence[Any], Constants, np.ndarray], Call | None]
"""(node, arrays of its inputs, constants, array for the result) -> the call, or None for a form it does not know.

Inputs that the node leaves out are None; arrays stay where they are. May raise :class:`NotConstant`.
"""


def attributes(node: NodeProto) -> dict[str, Any]:
    """By name, as Python values."""
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


class NotConstant(Exception):
    """A value that a call needs beforehand may change between passes."""


def known(node: NodeProto, constants: Constants, index: int, name: str) -> np.ndarray | None:
    """What an operator takes as an attribute in old opsets, as an input in newer ones; None where it is left out.

    Raises:
        NotConstant: it is an input that no constant is.
    """
    if name in (given := attributes(node)):
        return np.asarray(given[name])
    text = node.input[index] if len(node.input) > index else ""
    if text and text not in constants:
        raise NotConstant(text)
    return constants[text] if text else None


def in_turn(steps: Sequence[Call]) -> Call:
    """One call that makes several."""

    def call() -> None:
        for step in steps:
            step()

    return call
