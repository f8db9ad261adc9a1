"""The kernel cache: jobs, trials, kernels, artifacts and device profiles, behind one interface.

``api.py`` is the contract; ``specs.py``, ``jobs.py`` and ``kernels.py`` are what is stored beside records; ``sql/`` and
``memory/`` implement the contract.
"""
