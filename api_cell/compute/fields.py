"""Fields of documents and bodies, each with the versions that have it: what a view shows and a schema lets pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from api_cell.compute.history import NEWEST, OLDEST
from api_cell.edge.route import ByVersion, Schema, Version

T = TypeVar("T")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Field(Generic[V]):
    """`until` is the last version that has it. A name may occur twice, in other versions with another value."""

    name: str
    value: V
    since: Version = OLDEST
    until: Version = NEWEST


Read = Callable[[T], Any]
"""Reads a field's value from what a document is about."""


class View(Generic[T]):
    """A document about a T. Its fields at one version are found once."""

    def __init__(self, *fields: Field[Read[T]]) -> None:
        self._fields = fields
        self._at = lru_cache(maxsize=None)(lambda version: tuple(values_at(fields, version).items()))

    def at(self, version: Version, subject: T) -> dict[str, Any]:
        """The document as this version shows it."""
        return {name: read(subject) for name, read in self._at(version)}


def values_at(fields: tuple[Field[V], ...], version: Version) -> dict[str, V]:
    """The fields of a version by name, in the order of the table."""
    return {field.name: field.value for field in fields if field.since <= version <= field.until}


def schemas_of(make: Callable[[dict[str, Any]], Schema], *fields: Field[Any]) -> ByVersion:
    """The schema that `make` builds of the fields of a version, for each version at which they change."""
    starts = {field.since for field in fields} | {after(field.until) for field in fields if field.until != NEWEST}
    return tuple((version, make(values_at(fields, version))) for version in sorted({OLDEST, *starts}))


def after(version: Version) -> Version:
    return version[0], version[1] + 1
