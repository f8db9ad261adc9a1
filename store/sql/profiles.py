"""Profiles of devices, inside a transaction of the caller."""

from __future__ import annotations

import logging

from sqlalchemy.orm import Session

from fettle.backends.api import Profile
from fettle.graph import codec
from fettle.graph.errors import InvalidArgument
from fettle.store.encoding import from_json, to_json
from fettle.store.sql.catalogue import upsert
from fettle.store.sql.models import ProfileRow

_log = logging.getLogger(__name__)


def put(session: Session, profile: Profile, now: float) -> None:
    """Store or replace a profile."""
    row = {"device_key": profile.device_key, "measured": now, "data": to_json(codec.to_data(profile))}
    upsert(session, ProfileRow, row, replace=True)


def get(session: Session, device_key: str) -> Profile | None:
    """The profile of a device; None if there is none that this version can read."""
    row = session.get(ProfileRow, device_key)
    if row is None:
        return None
    try:
        return codec.from_data(Profile, from_json(row.data))
    except InvalidArgument as error:
        _log.warning("left out the profile of device %s: %s", device_key, error)
        return None
