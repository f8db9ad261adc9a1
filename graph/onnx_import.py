"""ONNX import, the short way in."""

from fettle.graph.onnx.importer import Imported, import_model
from fettle.graph.onnx.strip import without_weights

__all__ = ["Imported", "import_model", "without_weights"]
