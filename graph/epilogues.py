"""Epilogues: what is done to every element of a product before it is stored, ``relu(y+b0)+x0``.

``y`` is the product, ``b0 …`` are constant rows (one number for each column of a matmul, for each channel of a
convolution), ``x0 …`` are operands of the result's shape. Grammar and functions are those of
:mod:`fettle.graph.expressions`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.graph.errors import InvalidWorkload
from fettle.graph.expressions import Expression
from fettle.graph.formats import Format
from fettle.graph.tensors import TensorSpec

_NAME = re.compile(r"y|[bx](0|[1-9][0-9]?)")


@attrs.frozen
class Epilogue:
    """A canonical epilogue text; equality and hash are those of the text.

    Attributes:
        text: canonical spelling.
        expression: the same over ``x0 …``: first y, then the rows, then the full operands.
        rows: number of ``b`` operands.
        operands: number of ``x`` operands.
    """

    text: str
    expression: Expression = attrs.field(eq=False)
    rows: int = attrs.field(eq=False)
    operands: int = attrs.field(eq=False)

    @classmethod
    def parse(cls, text: str) -> Epilogue:
        """Check and canonicalise.

        Raises:
            InvalidWorkload: not an expression of the grammar, without ``y``, or operands are not numbered from 0.
        """
        try:
            tree = ast.parse(text, mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError):
            raise InvalidWorkload(f"malformed epilogue {text[:64]!r}", hint="example: relu(y+b0)+x0") from None
        names = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and _NAME.fullmatch(node.id)]
        used = {node.id for node in names}
        rows, operands = (sum(name[0] == letter for name in used) for letter in "bx")
        order = ["y", *(f"b{i}" for i in range(rows)), *(f"x{i}" for i in range(operands))]
        if used != set(order):
            raise InvalidWorkload(
                f"epilogue {text[:64]!r} must use y, and number b0, b1 … and x0, x1 … without gaps",
                hint="example: relu(y+b0)+x0",
            )
        canonical = ast.unparse(tree).replace(" ", "")
        for node in names:
            node.id = f"x{order.index(node.id)}"
        return cls(canonical, Expression.parse(ast.unparse(tree)), rows, operands)

    def __str__(self) -> str:
        return self.text

    def evaluate(
        self, y: NDArray[np.float64], error: NDArray[np.float64], others: Sequence[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Value in float64, and the error where y has the elementwise ``error`` and float32 is used after it.

        Args:
            others: rows, already of a shape that broadcasts to y's, then full operands.
        """
        return self.expression.evaluate_with_bound([y, *others], [error])


def epilogue_operands(epilogue: Epilogue | None, columns: int, result: TensorSpec) -> tuple[TensorSpec, ...]:
    """What an epilogue reads besides the product, in call order."""
    if epilogue is None:
        return ()
    rows = (TensorSpec(f"b{i}", (columns,), Format("f32"), constant=True) for i in range(epilogue.rows))
    return *rows, *(TensorSpec(f"x{i}", result.shape, result.format) for i in range(epilogue.operands))
