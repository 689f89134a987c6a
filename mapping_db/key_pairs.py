"""Rows of `key_pairs`: public keys by user and name."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, delete, func, insert, select
from sqlalchemy.exc import IntegrityError

from cell_service.errors import Invalid, KeypairExists, KeypairNotFound
from mapping_db.schema import key_pairs


@dataclass(frozen=True, slots=True)
class KeyPair:
    """`type` is ssh or x509; `id` None before it is stored."""

    user_id: str
    name: str
    type: str
    fingerprint: str
    public_key: str
    created_at: datetime
    id: int | None = None


_FIELDS = tuple(KeyPair.__dataclass_fields__)
_COLUMNS = [key_pairs.c[name] for name in _FIELDS]


def insert_key_pair(tx: Connection, pair: KeyPair) -> None:
    """Raises KeypairExists when the user has one of that name."""
    values = {name: getattr(pair, name) for name in _FIELDS if name != "id"}
    try:
        with tx.begin_nested():
            tx.execute(insert(key_pairs).values(values))
    except IntegrityError as error:
        raise KeypairExists(name=pair.name) from error


def get(tx: Connection, user_id: str, name: str) -> KeyPair:
    """Raises KeypairNotFound."""
    row = tx.execute(select(*_COLUMNS).where(key_pairs.c.user_id == user_id, key_pairs.c.name == name)).one_or_none()
    if row is None:
        raise KeypairNotFound(user_id=user_id, name=name)
    return _pair(row)


def page(tx: Connection, user_id: str, marker: str | None = None, limit: int | None = None) -> list[KeyPair]:
    """The user's key pairs by name, those after `marker`. Raises Invalid when there is no such marker."""
    query = select(*_COLUMNS).where(key_pairs.c.user_id == user_id).order_by(key_pairs.c.name)
    if marker is not None:
        try:
            get(tx, user_id, marker)
        except KeypairNotFound as error:
            raise Invalid(reason=f"marker [{marker}] not found") from error
        query = query.where(key_pairs.c.name > marker)
    if limit is not None:
        query = query.limit(limit)
    return [_pair(row) for row in tx.execute(query)]


def count(tx: Connection, user_id: str) -> int:
    """How many key pairs the user has."""
    return tx.execute(select(func.count()).where(key_pairs.c.user_id == user_id)).scalar_one()


def remove(tx: Connection, user_id: str, name: str) -> None:
    """Raises KeypairNotFound."""
    if not tx.execute(delete(key_pairs).where(key_pairs.c.user_id == user_id, key_pairs.c.name == name)).rowcount:
        raise KeypairNotFound(user_id=user_id, name=name)


def _pair(row: Row[Any]) -> KeyPair:
    return KeyPair(**row._mapping)
