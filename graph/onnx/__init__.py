"""ONNX models: load safely, normalise, infer shapes, cut into workloads, execute by reference.

One file per step, in that order; ``importer.py`` runs them all.
"""
