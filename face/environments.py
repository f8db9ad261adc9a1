"""Learning agents search schedules: ``gymnasium.make("fettle.environments:fettle/Tuning-v0", workload=…, device=…)``.

Importing this module registers the environment. Raises Unsupported if Gymnasium is not installed.
"""

from __future__ import annotations

from importlib.util import find_spec

from fettle.graph.errors import Unsupported

if find_spec("gymnasium") is None:
    raise Unsupported("environments need Gymnasium", hint="pip install 'fettle-tuner[gym]'")

import gymnasium

from fettle.search.environments.environment import TuningEnv

ID = "fettle/Tuning-v0"

gymnasium.register(ID, entry_point=f"{TuningEnv.__module__}:{TuningEnv.__name__}", disable_env_checker=True)

__all__ = ["ID", "TuningEnv"]
