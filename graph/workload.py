"""Workloads: one operator with shapes and formats, as canonical text and as a 256-bit key.

Text is ``operator key=value …``, parsed and printed by the operator's declared fields, so that
``Workload.parse(str(w)) == w`` for every workload and two spellings of one workload share a key.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import attrs
from numpy.typing import NDArray

from fettle.graph import codec
from fettle.graph.errors import InvalidWorkload
from fettle.graph.operators import OPERATORS, Operator
from fettle.graph.tensors import TensorSpec

_MAX_TEXT = 4096
_EXAMPLE = "example: matmul m=1 n=4096 k=4096 act=f32 weight=u4:128"


@attrs.frozen
class Workload:
    """The unit that is tuned.

    Attributes:
        operator: name of the operator (``matmul``, ``softmax`` …).
        fields: (name, value) of every field that differs from its default, in the operator's order.
    """

    operator: str
    fields: tuple[tuple[str, str], ...]

    def __attrs_post_init__(self) -> None:
        canonical = self.spec.canonical_fields(dict(self.fields))
        if len(dict(self.fields)) != len(self.fields):
            raise InvalidWorkload(f"workload {self.operator}: a field is given twice")
        object.__setattr__(self, "fields", canonical)

    @classmethod
    def parse(cls, text: str) -> Workload:
        """The workload a text describes.

        Raises:
            InvalidWorkload: no text, unknown operator, unknown, missing, repeated or malformed field, absurd shape.
        """
        if not isinstance(text, str):  # Python callers pass anything
            raise InvalidWorkload(f"a workload is a text or a Workload, not {type(text).__name__}", hint=_EXAMPLE)
        if len(text) > _MAX_TEXT:
            raise InvalidWorkload(f"workload text of {len(text)} characters; at most {_MAX_TEXT} are allowed")
        words = text.split()
        if not words:
            raise InvalidWorkload("empty workload text", hint=_EXAMPLE)
        fields = []
        for word in words[1:]:
            name, equals, value = word.partition("=")
            if not (name and equals and value):
                raise InvalidWorkload(
                    f"malformed field {word!r} in workload {text!r}", hint="fields are written key=value"
                )
            fields.append((name, value))
        return cls(words[0], tuple(fields))

    @classmethod
    def of(cls, operator: str, **fields: object) -> Workload:
        """Build from keywords: ``Workload.of("matmul", m=1, n=64, k=64, act="f32", weight="u4:32")``."""
        return cls(operator, tuple((name, str(value)) for name, value in fields.items()))

    def __str__(self) -> str:
        return " ".join([self.operator, *(f"{name}={value}" for name, value in self.fields)])

    @property
    def spec(self) -> Operator:
        """The operator's declaration: fields, operands, reference semantics."""
        try:
            return OPERATORS[self.operator]
        except KeyError:
            raise InvalidWorkload(
                f"unknown operator {self.operator!r}", hint=f"known operators: {' '.join(sorted(OPERATORS))}"
            ) from None

    @property
    def values(self) -> dict[str, Any]:
        """Every field with its typed value, defaults filled in."""
        return dict(_typed(self))

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    @functools.cached_property
    def key(self) -> str:
        """256-bit key in hexadecimal."""
        return codec.digest(("fettle.workload", self.operator, self.fields))

    @property
    def operands(self) -> tuple[TensorSpec, ...]:
        """Operands in call order."""
        return self.spec.operands(self.values)

    @property
    def result(self) -> TensorSpec:
        """The one result."""
        return self.spec.result(self.values)

    def decode(self, result: NDArray[Any]) -> NDArray[Any]:
        """The numbers a result stands for, as the operator's reference gives them."""
        return self.spec.decode(self.values, result)

    @property
    def flops(self) -> int:
        """Useful arithmetic operations of one call (a multiply-add counts two)."""
        return self.spec.flops(self.values)

    @property
    def nbytes(self) -> int:
        """Compulsory traffic of one call: every operand read once, the result written once."""
        return sum(t.nbytes for t in self.operands) + self.result.nbytes


@functools.lru_cache(maxsize=256)
def _typed(workload: Workload) -> Mapping[str, Any]:
    """A workload's values, parsed once: features of thousands of schedules ask for them again and again."""
    return workload.spec.values(dict(workload.fields))
