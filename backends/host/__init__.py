"""Runs untrusted work (build, verify, measure) in worker processes that may crash or hang.

``executor.py`` is the interface, ``local.py`` the implementation on this machine.
"""
