"""Operators to be placed, with who feeds whom: of a decoder's next token, or of an imported graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import attrs

from fettle.graph.errors import InvalidArgument, InvalidGraph
from fettle.graph.graph import Graph
from fettle.graph.workload import Workload

DECODER = "decoder:"


@attrs.frozen
class Operator:
    """One operator.

    Attributes:
        count: how often it runs, in as many layers.
    """

    name: str
    workload: Workload
    count: int = 1

    @property
    def intensity(self) -> float:
        """Operations per byte of compulsory traffic (Duplex, 2409.01141)."""
        return self.workload.flops / self.workload.nbytes


@attrs.frozen
class Edge:
    """A tensor that ``source`` gives to ``target`` (numbers of operators), ``count`` times."""

    source: int
    target: int
    nbytes: int
    count: int = 1


@attrs.frozen
class Work:
    """What is to be placed."""

    name: str
    operators: tuple[Operator, ...]
    edges: tuple[Edge, ...]


@attrs.frozen
class Decoder:
    """The shape of a decoder-only transformer."""

    layers: int
    width: int
    heads: int
    ffn: int
    vocabulary: int
    kv_heads: int = 0
    gated: bool = False

    @property
    def keys(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads

    @property
    def head_dim(self) -> int:
        return self.width // self.heads

    @property
    def parameters(self) -> int:
        """Weights of the matrices, the vocabulary's counted once."""
        attention = 2 * self.width * (self.width + self.keys * self.head_dim)
        return (
            self.layers * (attention + (3 if self.gated else 2) * self.width * self.ffn) + self.width * self.vocabulary
        )


@cache
def _data(name: str) -> Mapping[str, Any]:
    text = resources.files("fettle.search.placement").joinpath(f"data/{name}.json").read_text(encoding="utf-8")
    values: Mapping[str, Any] = json.loads(text)
    return values


def decoders() -> dict[str, Decoder]:
    """The known shapes, by name (``data/decoders.json``)."""
    return {name: Decoder(**fields) for name, fields in _data("decoders")["decoders"].items()}


def pim_gpt_models() -> tuple[str, ...]:
    """The eight models of PIM-GPT (2310.09385)."""
    return tuple(_data("decoders")["pim_gpt"])


def machines() -> Mapping[str, Any]:
    """Baseline machines, the link between devices, and figures of papers (``data/machines.json``)."""
    return _data("machines")


def decode(name: str, decoder: Decoder, batch: int, context: int) -> Work:
    """One token for each of ``batch`` sequences that are ``context`` long, in bf16.

    Norms, activations and residuals are left out: they ride along with the products they follow.
    """
    b, h, kv = batch, decoder.width, decoder.keys * decoder.head_dim

    def product(n: int, k: int) -> Workload:
        return Workload.of("matmul", m=b, n=n, k=k, act="bf16", weight="bf16")

    attention = Workload.of(
        "attention",
        batch=b,
        heads=decoder.heads,
        kv_heads=decoder.keys,
        q=1,
        kv=context,
        dim=decoder.head_dim,
        act="bf16",
    )
    up = 2 * decoder.ffn if decoder.gated else decoder.ffn
    layer = (
        ("qkv", product(h + 2 * kv, h)),
        ("attention", attention),
        ("projection", product(h, h)),
        ("up", product(up, h)),
        ("down", product(h, decoder.ffn)),
    )
    operators = [Operator(part, workload, decoder.layers) for part, workload in layer]
    operators.append(Operator("head", product(decoder.vocabulary, h)))
    widths = (h + 2 * kv, h, h, up)
    edges = [Edge(at, at + 1, 2 * b * width, decoder.layers) for at, width in enumerate(widths)]
    edges += [Edge(4, 0, 2 * b * h, decoder.layers - 1), Edge(4, 5, 2 * b * h)]
    return Work(name, tuple(operators), tuple(edges))


def parse_decoder(text: str) -> Work:
    """``decoder:NAME[,batch=B][,context=C]``.

    Raises:
        InvalidArgument: an unknown name or option, or a size out of range.
    """
    name, *options = text.removeprefix(DECODER).split(",")
    sizes = {"batch": 1, "context": 1024}
    for option in options:
        key, _, value = option.partition("=")
        if key not in sizes or not (value.isascii() and value.isdigit()) or not 1 <= int(value[:8]) <= 1 << 20:
            raise InvalidArgument(f"malformed option {option!r} of {text!r}", hint="options: batch=N context=N")
        sizes[key] = int(value)
    found = decoders().get(name)
    if found is None:
        raise InvalidArgument(f"no decoder named {name!r}", hint=f"decoders: {' '.join(decoders())}")
    return decode(text, found, sizes["batch"], sizes["context"])


def from_graph(graph: Graph) -> Work:
    """An imported model: its workloads; edges carry the producer's result.

    Raises:
        InvalidGraph: it has no operator that could be placed.
    """
    placed = [node for node in graph.nodes if node.workload is not None]
    made = {output: at for at, node in enumerate(placed) for output in node.outputs}
    operators, edges = [], []
    for at, node in enumerate(placed):
        assert node.workload is not None
        operators.append(Operator(node.name, node.workload))
        sources = {made[name] for group in node.inputs for name in group if name in made}
        for source in sorted(sources):
            result = placed[source].workload
            assert result is not None
            edges.append(Edge(source, at, result.result.nbytes))
    if not operators:
        raise InvalidGraph(f"{graph.name} has no operator that could be placed")
    return Work(graph.name, tuple(operators), tuple(edges))
