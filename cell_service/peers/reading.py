"""Records of other services, read: one that is not as it should be spoils no list."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from cell_service.errors import PeerUnavailable
from cell_service.logs import about

log = logging.getLogger(__name__)
T = TypeVar("T")
_UNREADABLE = (AttributeError, KeyError, TypeError, ValueError)


def read(service: str, record: Any, make: Callable[[Any], T]) -> T:
    """Read the record with `make`. Raises PeerUnavailable when it has another form."""
    try:
        return make(record)
    except _UNREADABLE as error:
        reason = f"a record cannot be read ({type(error).__name__})"
        raise PeerUnavailable(service=service, reason=reason) from error


def read_all(service: str, records: Any, make: Callable[[Any], T]) -> Iterator[T]:
    """Read each record with `make`; those that it can't read are left out, and logged."""
    for record in records if isinstance(records, list) else ():
        try:
            yield make(record)
        except _UNREADABLE as error:
            known = record.get("id") if isinstance(record, dict) else None
            log.warning("a record is left out", extra=about(None, service=service, record=known, reason=repr(error)))


def texts(value: Any) -> dict[str, str]:
    """The names and values of an object, as text; nothing of what is no object."""
    return {str(name): str(one) for name, one in value.items()} if isinstance(value, dict) else {}


def objects(value: Any) -> Iterable[dict[str, Any]]:
    """The objects in a list; nothing of what is no list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []
