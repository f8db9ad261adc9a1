"""A model file as a graph of workloads. The passes, in their order:

1. ``load`` reads the file, and touches nothing outside its folder.
2. ``normalise`` inlines functions, names and sorts nodes, lifts constants, checks nodes against the definitions of
   their operators, and makes fewer kinds of them (``rewrites``: quantised tensors, BatchNormalization, onnxruntime's
   operators, Gemm, ConvTranspose). Shapes are not known yet.
3. ``bind`` gives symbolic dimensions their sizes.
4. ``infer_folded`` checks the model, infers types, and computes what shapes and masks follow from.
5. ``expand`` writes attention as runtimes have it in ONNX's operators, which needs shapes; then once more 4.
6. ``tidy`` leaves fewer ways to write the same; it keeps the types up to date itself.
7. ``cut`` finds patterns of several nodes (``sdpa``, ``norms``), matches the other nodes one by one (``match``), and
   fuses elementwise ones (``fuse``). It changes nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import attrs
from onnx import ModelProto

from fettle.graph.graph import Graph
from fettle.graph.onnx.cut import cut
from fettle.graph.onnx.dims import bind
from fettle.graph.onnx.expansion.expand import expand
from fettle.graph.onnx.fold import infer_folded
from fettle.graph.onnx.load import load
from fettle.graph.onnx.rewriting.normalise import normalise
from fettle.graph.onnx.rewriting.tidy import tidy
from fettle.graph.onnx.shapes import TensorType
from fettle.graph.onnx.weightlist import weight_names
from fettle.graph.onnx.weights import fill_weights, load_weights


@attrs.frozen(eq=False)
class Imported:
    """A model that was understood.

    Attributes:
        model: the normalised model; ``graph`` covers exactly its nodes. External weights are not loaded.
        graph: its workloads and leftovers. Its inputs and outputs leave out those no format describes.
        types: element type and shape of every tensor.
        folder: where external data may come from; None for a model given as bytes.
    """

    model: ModelProto
    graph: Graph
    types: Mapping[str, TensorType]
    folder: Path | None = None

    def filled(self, seed: int) -> Imported:
        """The same with every weight in memory: external ones read, missing ones drawn from ``seed``.

        Raises:
            InvalidGraph, Unsupported: see :mod:`fettle.graph.onnx.weights`.
        """
        return attrs.evolve(self, model=fill_weights(self.loaded().model, seed))

    def loaded(self) -> Imported:
        """The same with external weights read into memory.

        Raises:
            InvalidGraph: see :func:`fettle.graph.onnx.weights.load_weights`.
        """
        return attrs.evolve(self, model=load_weights(self.model, self.folder))


def import_model(source: str | os.PathLike[str] | bytes, dims: Mapping[str, int] | None = None) -> Imported:
    """Load, check and cut an ONNX model.

    Args:
        source: path of a model, or its bytes (then it may not have external data).
        dims: sizes of the symbolic dimensions of the model's inputs.

    Raises:
        InvalidGraph: malformed, cyclic, ill-typed or absurd models; external data outside the model's folder;
            symbolic dimensions without a size, or sizes for dimensions the model does not have.
        NotFound: no such file.
        ResourceExhausted: more than 2 GiB without external data.
    """
    raw, folder = load(source)
    model = normalise(raw)
    bind(model, dims or {})
    weight_names(model)  # refuses a malformed list before anything else is done
    types = infer_folded(model, folder)
    reasons: dict[str, str] = {}
    while expand(model, types, reasons):  # layer by layer: what follows one has a known shape then
        types = infer_folded(model, folder)
    tidy(model, types)
    return Imported(model, cut(model, types, folder, reasons), types, folder)
