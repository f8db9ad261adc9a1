"""ONNX import, the short way in: ``import_model``."""

from fettle.graph.onnx.importer import Imported, import_model

__all__ = ["Imported", "import_model"]
