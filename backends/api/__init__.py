"""The plugin contract: everything the author of a backend needs to read.

A backend turns a (workload, device) pair into a *space* of schedules, builds a candidate of that space into
an *artifact*, loads the artifact as a callable kernel, and measures it. fettle does the rest: it samples the
space, runs builds and measurements in worker processes that may crash or hang, compares every kernel with the
reference before timing it, learns which schedules are good, and stores winners.

To write one: subclass :class:`Backend`, register the class under the entry-point group ``fettle.backends``
in your package's metadata, and run ``fettle backends`` to see it. Read ``backend.py``, which is that class and no
more; then, as its methods name them:

* ``devices.py``: Device, the DeviceText that selects it, the Profile of its measured Roofs;
* ``spaces.py``: Parameter, Constraint and Space, and Schedule, a point of a space;
* ``candidates.py``: Candidate, the Artifact built from it, the LoadedKernel that runs;
* ``measurements.py``: MeasurePolicy, Measurement, its Outcome and its Basis;
* ``simulations.py``, if your device is a model that ``fettle simulate`` can ask;
* ``records.py``: how a finished trial is stored, which a backend need not know.

Everything is plain, frozen data; units are seconds and bytes unless a name says otherwise. Import all of it from
here.
"""

from fettle.backends.api.backend import Backend, Bound, Support
from fettle.backends.api.candidates import Artifact, Candidate, LoadedKernel, PreparableKernel
from fettle.backends.api.devices import Device, DeviceText, Profile, Roof
from fettle.backends.api.measurements import WAITED, Basis, Measurement, MeasurePolicy, Outcome
from fettle.backends.api.records import RECORD_VERSION, Record
from fettle.backends.api.simulations import Simulation
from fettle.backends.api.spaces import Constraint, Parameter, Schedule, Space
from fettle.backends.api.values import Pairs, Value

__all__ = [
    "RECORD_VERSION",
    "WAITED",
    "Artifact",
    "Backend",
    "Basis",
    "Bound",
    "Candidate",
    "Constraint",
    "Device",
    "DeviceText",
    "LoadedKernel",
    "MeasurePolicy",
    "Measurement",
    "Outcome",
    "Pairs",
    "Parameter",
    "PreparableKernel",
    "Profile",
    "Record",
    "Roof",
    "Schedule",
    "Simulation",
    "Space",
    "Support",
    "Value",
]
