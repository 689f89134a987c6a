"""The servers that the metadata service finds."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Connection

from cell_service.context import Clock, Context
from cell_service.db import instances
from cell_service.db.sql.engine import Database
from cell_service.errors import InstanceNotFound, PasswordIsSet
from cell_service.metadata.password import password_of, with_password
from cell_service.model.instance import Instance


class Instances(Protocol):
    """The servers that a metadata service knows."""

    def find(self, ctx: Context, uuid: str) -> Instance:
        """Raises InstanceNotFound, also for a deleted one; Unavailable when its cell can't be reached."""

    def set_password(self, ctx: Context, uuid: str, password: str) -> None:
        """Store the password. Raises PasswordIsSet when there is one, and like `find`."""


class CellInstances:
    """The servers of one cell, from its own database."""

    def __init__(self, db: Database, clock: Clock) -> None:
        self._db, self._clock = db, clock

    def find(self, ctx: Context, uuid: str) -> Instance:
        with self._db.connect() as tx:
            return living(tx, uuid)

    def set_password(self, ctx: Context, uuid: str, password: str) -> None:
        self._db.run(lambda tx: store_password(tx, uuid, password, self._clock))


def living(tx: Connection, uuid: str) -> Instance:
    """The server, unless it is deleted or about to be somewhere else. Raises InstanceNotFound."""
    instance = instances.get(tx, uuid)
    if instance.hidden:
        raise InstanceNotFound(instance_id=uuid)
    return instance


def store_password(tx: Connection, uuid: str, password: str, clock: Clock) -> None:
    """Store the password, if there is none. The instance's locked row decides which of two callers is first.

    Raises PasswordIsSet, InstanceNotFound.
    """
    _change(tx, uuid, password, clock, only_first=True)


def clear_password(tx: Connection, uuid: str, clock: Clock) -> None:
    """Forget the password; the guest's own stays as it is. Raises InstanceNotFound."""
    _change(tx, uuid, "", clock, only_first=False)


def _change(tx: Connection, uuid: str, password: str, clock: Clock, *, only_first: bool) -> None:
    instances.lock_row(tx, uuid)
    instance = living(tx, uuid)
    if only_first and password_of(instance):
        raise PasswordIsSet(instance_uuid=uuid)
    changed = with_password(instance.system_metadata, password)
    instances.change(tx, uuid, now=clock.now(), system_metadata=changed)
