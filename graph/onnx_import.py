"""ONNX import, the short way in."""

from fettle.graph.onnx.importer import Imported, import_model
from fettle.graph.onnx.weights import fill_weights, without_weights

__all__ = ["Imported", "fill_weights", "import_model", "without_weights"]
