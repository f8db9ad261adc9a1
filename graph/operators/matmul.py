"""Matrix product ``y = x · W`` with a constant (dense or quantised) or a dynamic right-hand side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from fettle.graph.epilogues import Epilogue, epilogue_operands
from fettle.graph.errors import InvalidWorkload
from fettle.graph.formats import PER_ROW, Format
from fettle.graph.operators.base import (
    CONFIDENCE,
    ROUNDING,
    UNIT_ROUNDOFF,
    Field,
    Flag,
    Operator,
    Reference,
    choice,
    extent,
    flag,
    storing,
)
from fettle.graph.operators.codes import CODES, check_finish, finished, random_codes, zero_operand
from fettle.graph.operators.products import dense_products, quantised_product
from fettle.graph.operators.weights import random_weight
from fettle.graph.prepared import PreparedFormat
from fettle.graph.quantized import Operand, QuantizedWeight
from fettle.graph.tensors import TensorSpec

FP8_ROUNDOFF, FP8_STEP = 2.0**-14, 32
"""Half of what tensor units drop of sums of fp8 products, and the K after which they drop it again."""


def _default_compute(values: Mapping[str, Any]) -> Format:
    weight = values["weight"]
    rounds = weight is not None and weight.is_quantised and not weight.encodes_numbers
    codes = isinstance(values["act"], PreparedFormat) or values["act"].kind in CODES
    return Format("i8") if rounds or codes else values["act"]


def _default_out(values: Mapping[str, Any]) -> Format:
    if isinstance(values["act"], PreparedFormat):
        return Format("f32")
    wide = {"u8": "i32", "i8": "i32", "f8e4m3": "bf16"}.get(values["act"].kind)
    return values["act"] if wide is None else Format(wide)


def _act(text: str) -> Format | PreparedFormat:
    return PreparedFormat.parse(text) if ":" in text else choice("f32", "bf16", "f16", "u8", "i8", "f8e4m3")(text)


def _weight(text: str) -> Format:
    value = Format.parse(text)
    if not (value.is_float or value.is_fp8 or value.is_quantised or value.kind == "i8"):
        raise InvalidWorkload(f"weight format {text!r} needs a group", hint=f"write {text}:128 or {text}:row")
    return value


class Matmul(Operator):
    """``y[b,m,n] = Σ_k x[b,m,k] · W[n,k]``.

    A quantised ``weight`` is given as ``[N, K]`` codes with scales; a dense one, and ``rhs``, as ``[K, N]``
    (``[batch, K, N]`` when batched), as ONNX MatMul has it. ``weight`` is constant: packed once, untimed.
    ``invariant`` asks for kernels that give a row of x the same bits whatever M is (for equal N, K and formats).
    ``compute`` says what activations may be rounded to before the product. ``epilogue`` is applied to every
    element of the product before it is stored; its rows ``b0 …`` are constants ``[N]`` in f32, its operands
    ``x0 …`` have the shape and format of the result. With ``act=u8`` or ``act=i8`` both operands are plain 8-bit
    integers, see :mod:`fettle.graph.operators.codes`. With ``act=f8e4m3`` both are plain 8-bit floats, whose scales are
    the epilogue's (``y*b0``), and the result is bf16 unless ``out`` says otherwise. With ``act=i8:128/f32`` or
    ``lut4:128/f32`` x is what the operator ``quantize`` prepared, in the groups of the weight.
    """

    name: ClassVar[str] = "matmul"
    fields: ClassVar[tuple[Field, ...]] = (
        Field("batch", extent, default=lambda v: 1),
        Field("m", extent),
        Field("n", extent),
        Field("k", extent),
        Field("act", _act),
        Field("weight", _weight, optional=True),
        Field("rhs", choice("f32", "bf16", "f16", "i8"), optional=True),
        Field("compute", choice("i8", "f32", "bf16", "f16", "f8e4m3"), default=_default_compute),
        Field("out", choice("f32", "bf16", "f16", "i32", "u8", "i8"), default=_default_out),
        Field("invariant", flag, default=lambda v: Flag(False)),
        Field("epilogue", Epilogue.parse, optional=True),
        Field("zero", flag, default=lambda v: Flag(False)),
    )

    def check(self, values: Mapping[str, Any]) -> None:
        if (values["weight"] is None) == (values["rhs"] is None):
            raise InvalidWorkload("matmul needs exactly one of weight= (constant) and rhs= (dynamic)")
        weight = values["weight"]
        right_is_plain = weight is None or not weight.is_quantised
        if not right_is_plain and values["batch"] != 1:
            raise InvalidWorkload("a batched matmul cannot have a quantised weight")
        if isinstance(values["act"], PreparedFormat):
            _check_prepared(values, values["act"])
        kinds = {values["act"].kind, values["out"].kind, (weight or values["rhs"]).kind if right_is_plain else ""}
        if kinds & {"i32", *CODES} or values["zero"]:
            _check_integer(values)
        elif values["act"].kind == "f8e4m3" or (weight is not None and weight.is_fp8):
            _check_fp8(values)
        elif values["compute"].kind == "i8" and not (weight is not None and weight.is_quantised):
            raise InvalidWorkload("compute=i8 needs a quantised weight")

    def operands(self, values: Mapping[str, Any]) -> tuple[TensorSpec, ...]:
        m, n, k = values["m"], values["n"], values["k"]
        lead = () if values["batch"] == 1 else (values["batch"],)
        act: Format | PreparedFormat = values["act"]
        if isinstance(act, PreparedFormat):
            x = TensorSpec("x", (act.words(m, k),), Format("i32"))
        else:
            x = TensorSpec("x", (*lead, m, k), act)
        extra = epilogue_operands(values["epilogue"], n, self.result(values))
        extra = (*zero_operand(values), *extra)
        weight: Format | None = values["weight"]
        if weight is None:
            return x, TensorSpec("rhs", (*lead, k, n), values["rhs"]), *extra
        shape = (n, k) if weight.is_quantised else (*lead, k, n)
        return x, TensorSpec("weight", shape, weight, constant=True), *extra

    def result(self, values: Mapping[str, Any]) -> TensorSpec:
        lead = () if values["batch"] == 1 else (values["batch"],)
        return TensorSpec("y", (*lead, values["m"], values["n"]), values["out"])

    def flops(self, values: Mapping[str, Any]) -> int:
        return int(2 * values["batch"] * values["m"] * values["n"] * values["k"])

    def sample(self, values: Mapping[str, Any], tensor: TensorSpec, rng: np.random.Generator) -> Operand:
        """Standard normal activations; weights scaled by 1/√K, but for plain fp8; 8-bit integers of any value."""
        k = values["k"]
        if tensor.name == "x" and isinstance(values["act"], PreparedFormat):
            return values["act"].prepare(rng.standard_normal((values["m"], k), np.float32))
        if values["act"].kind in CODES:
            return random_codes(tensor, k, rng)
        if tensor.name not in ("weight", "rhs") or tensor.format.is_fp8:
            return rng.standard_normal(tensor.shape, np.float32).astype(tensor.format.dtype)
        if not tensor.format.is_quantised:
            normal = rng.standard_normal(tensor.shape, np.float32)
            normal /= np.float32(np.sqrt(k))
            return normal.astype(tensor.format.dtype, copy=False)
        return random_weight(tensor.format, tensor.shape[0], k, rng)

    def reference(self, values: Mapping[str, Any], operands: Sequence[Operand]) -> Reference:
        """float64 product, with the tolerance (elementwise, λ = ``CONFIDENCE``, u of the accumulator f32)::

            λ·√K·u·Σ|x||W|                                             summation in any order
          + λ·(1/127)/√12·√(Σ_g A_g²·s_g²·Σ_{k∈g}((c-z)² + step²·(4^b-1)/12))   compute=i8 only
          + λ·2^-9·√(Σ x²W²)                                           compute=bf16; f16: 2^-12; f8e4m3: 2^-5
          carried through the epilogue by its derivative                epilogue only
          + v·|y|                                                      v: roundoff of the result's format
          + 2^-25                                                      out=f16 only: half its smallest subnormal

        with A_g the largest |x| of the weight's group g. The first summand under the root is what rounding x
        to 8 bits per group costs; the second what rounding 16-entry tables of 4 activations to 8 bits costs,
        summed over b bit planes (T-MAC, 2407.00088). Both assume uniform, independent rounding errors.
        Of plain fp8 nothing is rounded again, but tensor units (Ada's and Hopper's) add with 13 bits after the
        point: addends, and with each 32 of K the sum, are cut (SageAttention2, 2411.10958, section 3.2). So there is
        ``λ·2^-14·(√K + K/32)·√(Σ x²W²)`` for the third summand.
        In the first summand |W| of a quantised weight stands for |s·(c - z)| + 2·|s·z|, of a binary-coded one for
        |W| + Σ_b |s_b|: what may be rounded before it cancels.
        Integer products are exact: one half tells them from their neighbours.
        Of prepared activations the product is that of what they stand for; int8 codes are not rounded again, and
        only the first summand is left of the three.
        Binary-coded weights have ``Σ_{k∈g} W² + |g|·Σ_b s_b²`` there instead of s_g² times the inner sum, and
        formats that encode numbers, which no table is made for, ``Σ_{k∈g} W²``.
        """
        act: Format | PreparedFormat = values["act"]
        compute: str = values["compute"].kind
        x = np.asarray(operands[0])
        if isinstance(act, PreparedFormat):
            x = act.activations(x, values["m"], values["k"])
            compute = "f32" if act.element == "i8" else compute
        x = x.astype(np.float64)
        weight = operands[1]
        if values["act"].kind in CODES:
            others = [np.asarray(o).astype(np.float64) for o in operands[2:]]
            if values["zero"]:
                x = x - others.pop(0)
            return finished(values, dense_products(x, np.asarray(weight), 1)[0], others)  # sums below 2^53 are exact
        if isinstance(weight, QuantizedWeight):
            expected, tolerance = quantised_product(x, weight, compute)
        else:
            k = values["k"]
            rounding = ROUNDING.get(compute, 0.0)
            if act.kind == "f8e4m3":
                rounding = FP8_ROUNDOFF * (np.sqrt(k) + k / FP8_STEP)
            expected, magnitudes, *squares = dense_products(x, np.asarray(weight), 3 if rounding else 2)
            tolerance = CONFIDENCE * np.sqrt(k) * UNIT_ROUNDOFF * magnitudes
            if rounding:
                tolerance += CONFIDENCE * rounding * np.sqrt(squares[0])
        if values["epilogue"] is not None:
            others = [np.asarray(o).astype(np.float64) for o in operands[2:]]
            expected, tolerance = values["epilogue"].evaluate(expected, tolerance, others)
        tolerance += max(UNIT_ROUNDOFF, storing(values["out"])[0]) * np.abs(expected)
        if values["out"].kind == "f16":
            tolerance += 2.0**-25
        return Reference(expected, tolerance)


def _check_integer(values: Mapping[str, Any]) -> None:
    """8-bit integers are multiplied exactly, or not at all."""
    right = (values["weight"] or values["rhs"]).kind
    if values["act"].kind not in CODES or right != "i8" or values["compute"].kind != "i8":
        raise InvalidWorkload(
            "an integer matmul is act=u8 or act=i8 with weight=i8 or rhs=i8", hint="leave out=, compute= and zero= away"
        )
    check_finish("matmul", values, values["k"])


def _check_fp8(values: Mapping[str, Any]) -> None:
    """Plain 8-bit floats are multiplied with one another."""
    weight: Format | None = values["weight"]
    if values["act"].kind != "f8e4m3" or weight is None or not weight.is_fp8 or values["compute"].kind != "f8e4m3":
        raise InvalidWorkload(
            "a product of plain fp8 is act=f8e4m3 with weight=f8e4m3 or weight=f8e5m2, and compute=f8e4m3",
            hint="an fp8 weight beside other activations needs a group: weight=f8e4m3:row",
        )


def _check_prepared(values: Mapping[str, Any], act: PreparedFormat) -> None:
    """Prepared activations are for weights of integers and signs in groups as theirs."""
    weight: Format | None = values["weight"]
    if weight is None or not weight.is_quantised or weight.encodes_numbers:
        raise InvalidWorkload(f"act={act} needs a quantised weight of integers or signs")
    if values["compute"].kind != "i8":
        raise InvalidWorkload(f"act={act} is rounded already", hint="leave compute= away")
    act.groups(values["k"])
    if act.group != (values["k"] if weight.group == PER_ROW else weight.group):
        raise InvalidWorkload(f"act={act} and weight={weight} are not grouped alike")
