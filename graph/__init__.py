"""Operator graphs, workloads, number formats, layouts and reference semantics.

Imports nothing of ours: every other room builds on this one.
"""
