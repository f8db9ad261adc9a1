"""Benchmarks against peers: each prints peers, ours, the roof and the ratios (``fettle bench NAME``)."""
