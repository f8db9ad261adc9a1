"""Attention as runtimes and their optimisers have it, in ONNX's own operators; ``expand`` is where to begin."""
