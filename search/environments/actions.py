"""What an agent may do: name a whole schedule, or change one parameter of the present one."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium import spaces

from fettle.backends.api import Schedule, Space
from fettle.graph.errors import InvalidArgument


class Actions(abc.ABC):
    """An action space, and the schedules its actions mean. Whether these are valid is for the environment to say."""

    space: spaces.Space[Any]

    @abc.abstractmethod
    def schedule(self, action: Any, present: Schedule) -> Schedule:
        """What an action makes of the present schedule."""


class PointActions(Actions):
    """The number of a choice for every parameter, in the space's order (``MultiDiscrete``)."""

    def __init__(self, space: Space) -> None:
        self._parameters = space.parameters
        self.space = spaces.MultiDiscrete([len(p.choices) for p in space.parameters])

    def schedule(self, action: Any, present: Schedule) -> Schedule:
        pairs = zip(self._parameters, np.asarray(action).tolist(), strict=True)
        return Schedule(tuple((p.name, p.choices[number]) for p, number in pairs))


class EditActions(Actions):
    """One parameter set to one of its choices (``Discrete``): all choices of the first parameter, then of the next.

    Parameters with a single choice are left out.
    """

    def __init__(self, space: Space) -> None:
        self.edits = tuple((p.name, choice) for p in space.parameters if len(p.choices) > 1 for choice in p.choices)
        if not self.edits:
            raise InvalidArgument("this space has one schedule only: there is nothing to edit")
        self.space = spaces.Discrete(len(self.edits))

    def schedule(self, action: Any, present: Schedule) -> Schedule:
        name, choice = self.edits[int(action)]
        return Schedule(tuple({**present.as_dict(), name: choice}.items()))


ACTIONS: Mapping[str, type[PointActions] | type[EditActions]] = {"point": PointActions, "edit": EditActions}
"""By name, the default first."""
