"""Protobuf messages to domain values and back: the only place that knows both.

``values.py`` what both services share, ``jobs.py`` and ``results.py`` tuning, ``events.py`` job events,
``kernels.py`` the cache.
"""
