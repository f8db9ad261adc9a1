"""What an operator declares, and the typed fields its text form is made of."""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import attrs
import numpy as np
from numpy.typing import NDArray

from fettle.graph.errors import InvalidWorkload
from fettle.graph.formats import Format
from fettle.graph.quantized import Operand
from fettle.graph.tensors import TensorSpec

MAX_EXTENT = 2**31 - 1
MAX_TENSOR_BYTES = 2**40

UNIT_ROUNDOFF = 2.0**-24
"""u of IEEE binary32, round to nearest."""

ROUNDING = {"bf16": 2.0**-9, "f16": 2.0**-12, "f8e4m3": 2.0**-5}
"""Relative deviation that rounding to a short float costs: half of its unit roundoff."""

CONFIDENCE = 8.0
"""λ of the probabilistic rounding-error bounds: λ√n·u instead of n·u holds for all of n partial sums with
probability at least 1 - 2n·exp(-λ²/2) (Higham & Mary, SIAM J. Sci. Comput. 41(5), 2019): 1 - 10⁻⁹ for n = 10⁵."""


def storing(format: Format) -> tuple[float, float]:
    """Errors of storing a float32 number in a result's format: relative (none in f32), and absolute, of what is
    flushed to zero or subnormal there."""
    relative = {"f32": 0.0, "bf16": 2.0**-8, "f16": 2.0**-11}[format.kind]
    return relative, 2.0**-24 if format.kind == "f16" else 2.0**-125


def storing_codes(value: NDArray[np.float64], error: NDArray[np.float64], format: Format) -> Reference:
    """Numbers in a plain integer format: the nearest whole number, halves to the even one, between its bounds.

    Exact, unless an ``error`` may lead to another whole number.
    """
    limits = np.iinfo(format.dtype)
    low, stored, high = (np.clip(np.rint(v), limits.min, limits.max) for v in (value - error, value, value + error))
    return Reference(stored, np.maximum(np.maximum(high - stored, stored - low), 0.5))


@attrs.frozen(eq=False)
class Reference:
    """The right answer of one call, and how far a kernel may be from it.

    Attributes:
        expected: result in float64, decoded (see :meth:`Operator.decode`).
        tolerance: largest allowed ``|decoded result - expected|``, elementwise, same shape.
    """

    expected: NDArray[np.float64]
    tolerance: NDArray[np.float64]


@attrs.frozen
class Field:
    """One ``key=value`` of a workload text.

    Attributes:
        name: the key.
        parse: text -> value; raises InvalidWorkload.
        default: value when absent, computed from the fields before it; None if the field is required.
        optional: absent means the value None.
    """

    name: str
    parse: Callable[[str], Any]
    default: Callable[[Mapping[str, Any]], Any] | None = None
    optional: bool = False


def extent(text: str) -> int:
    """A shape extent, 1 … 2^31-1."""
    if not (text.isascii() and text.isdigit()):
        raise InvalidWorkload(f"{text!r} is not a whole number")
    value = int(text) if len(text) < 20 else MAX_EXTENT + 1
    if not 1 <= value <= MAX_EXTENT:
        raise InvalidWorkload(f"extent {text} is not between 1 and {MAX_EXTENT}")
    return value


def shape(text: str) -> tuple[int, ...]:
    """Extents joined by ``x``: ``8x4096``."""
    return Shape(extent(part) for part in text.split("x"))


class Shape(tuple[int, ...]):
    """A tuple of extents that prints as the text form."""

    def __str__(self) -> str:
        return "x".join(map(str, self))


def positive_float(text: str) -> float:
    """A positive finite number; prints as ``repr``."""
    try:
        value = float(text)
    except ValueError:
        raise InvalidWorkload(f"{text!r} is not a number") from None
    if not 0.0 < value < float("inf"):
        raise InvalidWorkload(f"{text!r} is not a positive finite number")
    return value


class Flag(int):
    """A truth value that prints as the text form."""

    def __str__(self) -> str:
        return "true" if self else "false"


def flag(text: str) -> Flag:
    """``true`` or ``false``."""
    if text not in ("true", "false"):
        raise InvalidWorkload(f"{text!r} is neither true nor false")
    return Flag(text == "true")


def choice(*kinds: str) -> Callable[[str], Format]:
    """A plain format out of ``kinds``."""

    def parse(text: str) -> Format:
        value = Format.parse(text)
        if str(value) not in kinds:
            raise InvalidWorkload(f"format {text!r} is not one of {' '.join(kinds)}")
        return value

    return parse


class Operator(abc.ABC):
    """Fields, operands and meaning of one operator. Stateless; ``values`` are the typed fields."""

    name: ClassVar[str]
    fields: ClassVar[tuple[Field, ...]]

    def values(self, texts: Mapping[str, str]) -> dict[str, Any]:
        """Typed values of all fields.

        Raises:
            InvalidWorkload: a field is unknown, missing or malformed.
        """
        known = {field.name for field in self.fields}
        for name in texts:
            if name not in known:
                raise InvalidWorkload(
                    f"operator {self.name!r} has no field {name!r}",
                    hint=f"fields: {' '.join(field.name for field in self.fields)}",
                )
        result: dict[str, Any] = {}
        for field in self.fields:
            if field.name in texts:
                try:
                    result[field.name] = field.parse(texts[field.name])
                except InvalidWorkload as error:
                    raise InvalidWorkload(
                        f"{self.name} {field.name}={texts[field.name][:64]}: {error.message}", hint=error.hint
                    ) from None
            elif field.default is not None:
                result[field.name] = field.default(result)
            elif field.optional:
                result[field.name] = None
            else:
                raise InvalidWorkload(f"operator {self.name!r} needs the field {field.name!r}")
        self.check(result)
        for tensor in (*self.operands(result), self.result(result)):
            if tensor.nbytes > MAX_TENSOR_BYTES:
                raise InvalidWorkload(
                    f"{self.name}: operand {tensor.name} {tensor.shape} takes {tensor.nbytes} bytes; "
                    f"at most {MAX_TENSOR_BYTES} are allowed"
                )
        return result

    def canonical_fields(self, texts: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
        """The fields that differ from their defaults, canonically printed, in declared order."""
        values = self.values(texts)
        result = []
        for field in self.fields:
            value = values[field.name]
            if value is None or (field.default is not None and value == field.default(values)):
                continue
            result.append((field.name, str(value)))
        return tuple(result)

    def check(self, values: Mapping[str, Any]) -> None:
        """Reject combinations of fields that mean nothing (InvalidWorkload)."""

    @abc.abstractmethod
    def operands(self, values: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        """Operands in call order."""

    @abc.abstractmethod
    def result(self, values: Mapping[str, Any]) -> TensorSpec:
        """The one result."""

    @abc.abstractmethod
    def flops(self, values: Mapping[str, Any]) -> int:
        """Useful arithmetic operations of one call."""

    @abc.abstractmethod
    def sample(self, values: Mapping[str, Any], tensor: TensorSpec, rng: np.random.Generator) -> Operand:
        """Random data for one operand that keeps results O(1)."""

    def decode(self, values: Mapping[str, Any], result: NDArray[Any]) -> NDArray[Any]:
        """The numbers a result stands for, as :meth:`reference` gives them; by default its elements are these."""
        return result

    @abc.abstractmethod
    def reference(self, values: Mapping[str, Any], operands: Sequence[Operand]) -> Reference:
        """Result in float64 and the declared elementwise error bound; the docstring states the formula."""
