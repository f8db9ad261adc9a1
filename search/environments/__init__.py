"""Tuning as an environment of Gymnasium, so that any learning agent can search any (workload, device).

``environment.py`` is the environment, ``actions.py`` what an agent may do, ``remembered.py`` makes the trials.
"""
