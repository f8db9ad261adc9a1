"""The canonical encoding: one value, one string of bytes; one string of bytes, at most one value."""

from __future__ import annotations

import hashlib
import math

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fettle.graph import codec
from fettle.graph.errors import InvalidArgument

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4).map(tuple) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_decode_inverts_encode(value: object) -> None:
    assert codec.decode(codec.encode(value)) == value


@given(st.dictionaries(st.text(), st.integers(), min_size=2))
def test_order_of_insertion_does_not_matter(mapping: dict[str, int]) -> None:
    assert codec.encode(dict(reversed(mapping.items()))) == codec.encode(mapping)


@given(VALUES, st.data())
def test_bytes_that_decode_are_canonical(value: object, data: st.DataObject) -> None:
    raw = bytearray(codec.encode(value))
    for _ in range(data.draw(st.integers(0, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.sampled_from(b"0123456789-:;ntfisdblm\x00\xff"))
    try:
        decoded = codec.decode(bytes(raw))
    except InvalidArgument:
        return
    assert codec.encode(decoded) == bytes(raw)


@given(st.binary(max_size=40))
def test_arbitrary_bytes_decode_or_are_refused_with_a_position(raw: bytes) -> None:
    position = 0
    try:
        codec.decode(raw)
    except InvalidArgument as error:
        position = int(error.details["position"])
    assert 0 <= position <= len(raw)


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (None, b"n"),
        (True, b"t"),
        (-12, b"i-12;"),
        (1.0, b"d\x3f\xf0" + bytes(6)),
        ("é", b"s2:\xc3\xa9"),
        (b"\x00", b"b1:\x00"),
        ((1, False), b"l2:i1;f"),
        ({"b": 1, "a": 2}, b"m2:s1:ai2;s1:bi1;"),
    ],
)
def test_encoding_is_the_written_grammar(value: object, encoded: bytes) -> None:
    assert codec.encode(value) == encoded


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"i;",
        b"i-0;",
        b"i01;",
        b"i--1;",
        b"i" + b"9" * 5000 + b";",
        b"d123",
        b"d\x7f\xf8\x00\x00\x00\x00\x00\x01",
        b"s5:abc",
        b"s1:\xff",
        b"l2:n",
        b"l999999999:n",
        b"m2:s1:bns1:an",
        b"m2:s1:ans1:an",
        b"m1:i1;n",
        b"nn",
        b"l1:" * 70 + b"n",
        b"x",
    ],
)
def test_bytes_that_no_value_encodes_to_are_refused(raw: bytes) -> None:
    with pytest.raises(InvalidArgument, match="malformed canonical encoding at byte"):
        codec.decode(raw)


def test_every_nan_has_the_same_bytes() -> None:
    assert codec.encode(float("nan")) == codec.encode(-float("nan"))
    assert math.isnan(codec.decode(codec.encode(float("nan"))))


@pytest.mark.parametrize("value", [{1: 2}, {1, 2}, object(), 1j])
def test_values_without_an_encoding_are_refused(value: object) -> None:
    with pytest.raises(TypeError):
        codec.encode(value)


@attrs.frozen
class Inner:
    numbers: tuple[int, ...]
    note: str | None = None


@attrs.frozen
class Outer:
    name: str
    inner: tuple[Inner, ...]


def test_attrs_values_survive_the_round_trip() -> None:
    value = Outer("a", (Inner((1, 2)), Inner((), "b")))
    assert codec.loads(Outer, codec.dumps(value)) == value


def test_bytes_of_another_class_are_refused() -> None:
    with pytest.raises(InvalidArgument, match="not a Outer"):
        codec.loads(Outer, codec.dumps(Inner((1,))))


def test_digest_is_sha256_of_the_bytes() -> None:
    assert codec.digest((1, "a")) == hashlib.sha256(b"l2:i1;s1:a").hexdigest()
