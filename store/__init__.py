"""The kernel cache: jobs, trials, kernels, artifacts and device profiles, behind one interface.

``api.py`` is the contract, ``values.py`` what is stored, ``sql/`` the SQLAlchemy implementation.
"""
