"""Backends: plugins that describe spaces, build and run kernels for one kind of hardware.

``api.py`` is the contract and the one file a plugin author reads; ``registry.py`` finds the plugins.
"""
