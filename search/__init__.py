"""The tuner: samplers, scheduling over a graph, finals, jobs.

``jobs.py`` runs a stored job from beginning to end (or from where it stopped).
"""
