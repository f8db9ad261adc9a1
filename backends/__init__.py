"""Backends: plugins that describe spaces, build and run kernels for one kind of hardware.

``api/`` is the contract, all that a plugin author reads; ``registry.py`` finds the plugins.
"""
