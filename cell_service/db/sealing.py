"""Sealing of the secrets that wait in a database: a stored password can't be read without the database's data key.

Each database has one data key, in a row of `sealing_keys`, wrapped by the operator's keys (`[secrets] keys`). So a
backup or a replica of a database shows no password to a reader without the operator's keys. Without such keys the data
key is stored as it is, and protects only where single rows are shown: logs of queries, dumps of one table.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, insert, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.db.sql.types import Utc
from cell_service.errors import Invalid, SecretsUnreadable

_ONLY = 1
"""The id of a database's one data key."""
_PLAIN, _WRAPPED = "plain:", "wrapped:"


def sealing_keys_table(metadata: MetaData) -> Table:
    """The table of the data key, as one of the tables of `metadata`."""
    return Table(
        "sealing_keys",
        metadata,
        Column("id", Integer, primary_key=True, autoincrement=False),
        Column("data_key", Text, nullable=False),
        Column("created_at", Utc, nullable=False),
    )


_TABLE = sealing_keys_table(MetaData())


class Sealer:
    """Seals and opens the secrets of one database."""

    __slots__ = ("_cipher",)

    def __init__(self, data_key: bytes) -> None:
        self._cipher = Fernet(data_key)

    def seal(self, text: str) -> str:
        """The sealed form of a secret; it differs each time."""
        return self._cipher.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """The secret. Raises SecretsUnreadable for a text that this database's key has not sealed."""
        try:
            return self._cipher.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise SecretsUnreadable(reason="it was sealed by another database") from error


class WrappingKeys:
    """The operator's keys: the first wraps data keys, all unwrap. Without any, data keys are stored as they are."""

    __slots__ = ("_all", "_first")

    def __init__(self, keys: Sequence[str] = ()) -> None:
        """Raises Invalid for a text that is no key."""
        try:
            ciphers = [Fernet(key) for key in keys]
        except ValueError as error:
            raise Invalid(reason="[secrets] keys: each is 32 bytes in URL-safe base64") from error
        self._first = ciphers[0] if ciphers else None
        self._all = MultiFernet(ciphers) if ciphers else None

    def wrap(self, data_key: bytes) -> str:
        """The form in which a data key is stored."""
        if self._first is None:
            return _PLAIN + data_key.decode()
        return _WRAPPED + self._first.encrypt(data_key).decode()

    def unwrap(self, stored: str) -> tuple[bytes, bool]:
        """The data key, and whether the first key (or none, where there is none) has wrapped it.

        Raises SecretsUnreadable when none of the keys has.
        """
        if stored.startswith(_PLAIN):
            return stored.removeprefix(_PLAIN).encode(), self._first is None
        wrapped = stored.removeprefix(_WRAPPED).encode()
        if self._all is None or self._first is None:
            raise SecretsUnreadable(reason="its data key is wrapped, and [secrets] keys is not set")
        try:
            return self._first.decrypt(wrapped), True
        except InvalidToken:
            pass  # an older key may have wrapped it
        try:
            return self._all.decrypt(wrapped), False
        except InvalidToken as error:
            raise SecretsUnreadable(reason="none of [secrets] keys has wrapped its data key") from error


def new_key() -> str:
    """A key for `[secrets] keys`."""
    return Fernet.generate_key().decode()


def data_key(tx: Connection, keys: WrappingKeys) -> bytes:
    """The database's data key, made if there is none: the insert of its row decides which process has made it.

    A key that was wrapped by another than the first of `keys` is wrapped again; processes that do so at the same time
    store the same key. Raises SecretsUnreadable.
    """
    stored = _stored(tx)
    if stored is None:
        made = keys.wrap(Fernet.generate_key())
        try:
            with tx.begin_nested():
                tx.execute(insert(_TABLE).values(id=_ONLY, data_key=made, created_at=datetime.now(UTC)))
            stored = made
        except IntegrityError:
            stored = _stored(tx) or ""
    key, newest = keys.unwrap(stored)
    if not newest:
        again = update(_TABLE).where(_TABLE.c.id == _ONLY, _TABLE.c.data_key == stored)
        tx.execute(again.values(data_key=keys.wrap(key)))
    return key


def _stored(tx: Connection) -> str | None:
    found: str | None = tx.scalar(select(_TABLE.c.data_key).where(_TABLE.c.id == _ONLY))
    return found
