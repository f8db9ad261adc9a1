"""Triton kernels, one parameterised template per family. The only modules here that import Triton when imported."""
