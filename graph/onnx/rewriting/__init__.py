"""Passes that leave a model fewer kinds of nodes, and fewer ways to write the same. Its meaning stays."""
