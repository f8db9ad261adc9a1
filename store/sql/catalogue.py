"""Devices and workloads, stored once; every other row names them by key."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any, TypeVar, cast

import cattrs
from sqlalchemy import Executable, Table, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from fettle.backends.api import Device
from fettle.graph import codec
from fettle.graph.errors import InvalidArgument
from fettle.graph.workload import Workload
from fettle.store.encoding import from_json, to_json
from fettle.store.sql.models import Base, DeviceRow, WorkloadRow

T = TypeVar("T")

_SEEN = "fettle_seen"

_BATCH = 500
"""Keys per query; databases limit the variables of a statement."""


class Catalogue:
    """Reads and writes values in which each device and workload is its key.

    What was read is kept: rows of both tables neither change nor go. A workload this version does not know (an
    operator of a newer fettle) is absent, and values that name it are unreadable (InvalidArgument).
    """

    def __init__(self) -> None:
        self._workloads: dict[str, Workload] = {}
        self._devices: dict[str, Device] = {}
        self._stored: set[str] = set()  # keys of committed rows
        self._converter = codec.converter.copy(detailed_validation=False)
        self._converter.register_unstructure_hook(Workload, lambda workload: workload.key)
        self._converter.register_unstructure_hook(Device, lambda device: device.key)
        self._converter.register_structure_hook(Workload, lambda key, _: self._workloads[key])
        self._converter.register_structure_hook(Device, lambda key, _: self._devices[key])

    def dumps(self, value: Any) -> str:
        """JSON text of a value."""
        return to_json(self._converter.unstructure(value))

    def loads(self, cls: type[T], text: str) -> T:
        """The value in a text, once :meth:`load` has seen its devices and workloads.

        Raises:
            InvalidArgument: the text is no such value, or names something this version does not know.
        """
        try:
            return self._converter.structure(from_json(text), cls)
        except (cattrs.BaseValidationError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise InvalidArgument(f"not a {cls.__name__}: {'; '.join(cattrs.transform_error(error))}") from error

    def put_workload(self, session: Session, workload: Workload) -> str:
        """Store a workload unless it is; its key."""
        key = workload.key
        if key not in self._stored:
            row = {
                "key": key,
                "operator": workload.operator,
                "text": str(workload),
                "data": to_json(codec.to_data(workload)),
            }
            upsert(session, WorkloadRow, row, replace=False)
            _see(session, key)
        return key

    def put_device(self, session: Session, device: Device) -> str:
        """Store a device unless it is; its key."""
        key = device.key
        if key not in self._stored:
            row = {
                "key": key,
                "backend": device.backend,
                "label": device.label,
                "data": to_json(codec.to_data(device)),
            }
            upsert(session, DeviceRow, row, replace=False)
            _see(session, key)
        return key

    def committed(self, session: Session) -> None:
        """The transaction of ``session`` ended well: what it wrote and saw of both tables need not be written again."""
        self._stored.update(session.info.get(_SEEN, ()))

    def load(self, session: Session, workloads: Iterable[str], devices: Iterable[str]) -> None:
        """Read what is not yet known of these keys."""
        for keys in batches({key for key in workloads if key not in self._workloads}):
            for row in session.scalars(select(WorkloadRow).where(WorkloadRow.key.in_(keys))):
                workload = _known(Workload, row.data)
                if workload is not None and workload.key == row.key:
                    self._workloads[row.key] = workload
                    _see(session, row.key)
        for keys in batches({key for key in devices if key not in self._devices}):
            for device_row in session.scalars(select(DeviceRow).where(DeviceRow.key.in_(keys))):
                device = _known(Device, device_row.data)
                if device is not None and device.key == device_row.key:
                    self._devices[device_row.key] = device
                    _see(session, device_row.key)


def upsert(session: Session, model: type[Base], row: dict[str, Any], *, replace: bool, unique: str = "") -> bool:
    """Insert a row; if its key (or ``unique``, columns joined by commas) exists, replace that row or leave it.

    Returns:
        True if a row was written.
    """
    dialect = session.get_bind().dialect.name
    statement = _upsert(model, tuple(row), unique, replace, dialect)
    # Counting returned rows is the one way that both drivers agree on.
    return session.connection().execute(statement, row).first() is not None


@cache
def _upsert(model: type[Base], columns: tuple[str, ...], unique: str, replace: bool, dialect: str) -> Executable:
    table = cast(Table, model.__table__)
    on = unique.split(",") if unique else [column.name for column in table.primary_key]
    insert = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    if replace:
        changes = {name: insert.excluded[name] for name in columns if name not in on}
        return insert.on_conflict_do_update(index_elements=on, set_=changes).returning(*table.primary_key)
    return insert.on_conflict_do_nothing(index_elements=on).returning(*table.primary_key)


def _see(session: Session, key: str) -> None:
    session.info.setdefault(_SEEN, set()).add(key)


def _known(cls: type[T], text: str) -> T | None:
    try:
        return codec.from_data(cls, from_json(text))
    except InvalidArgument:
        return None


def batches(keys: set[str]) -> Iterable[list[str]]:
    """Keys in parts that fit into a query each."""
    ordered = sorted(keys)
    return (ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH))
