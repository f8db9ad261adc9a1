"""fettle: a kernel autotuning service. The public Python API.

Names are imported on first use (PEP 562): importing any ``fettle.x`` runs this file, and worker processes
must stay free of gRPC and SQLAlchemy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fettle.backends.api import Schedule
    from fettle.graph.quantized import QuantizedWeight
    from fettle.graph.workload import Workload
    from fettle.kernel import Kernel
    from fettle.loading import load
    from fettle.offline import lookup
    from fettle.service.client import connect, connect_async
    from fettle.torch_export import from_torch
    from fettle.tuning import tune, tune_distribution

_HOMES = {
    "Kernel": "fettle.kernel",
    "QuantizedWeight": "fettle.graph.quantized",
    "Schedule": "fettle.backends.api",
    "Workload": "fettle.graph.workload",
    "connect": "fettle.service.client",
    "connect_async": "fettle.service.client",
    "from_torch": "fettle.torch_export",
    "load": "fettle.loading",
    "lookup": "fettle.offline",
    "tune": "fettle.tuning",
    "tune_distribution": "fettle.tuning",
}

__all__ = [
    "Kernel",
    "QuantizedWeight",
    "Schedule",
    "Workload",
    "connect",
    "connect_async",
    "from_torch",
    "load",
    "lookup",
    "tune",
    "tune_distribution",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'fettle' has no attribute {name!r}")
