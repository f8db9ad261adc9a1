"""Runs plans without a GPU: Triton's interpreter, made right where it is silently wrong. Slow: for proofs, not work."""
