"""Differences between versions, as data: fields of documents, bodies and queries with the versions that have them, and
values in tables by the version from which each applies. A difference that is no value is a `Behaviour`.

Each API has a history of its versions, a module of its behaviours, and its views and schemas in terms of these.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, TypeVar

from api_cell.edge.route import ByVersion, Schema, Version
from api_cell.edge.shapes import by_version, strict

T = TypeVar("T")
V = TypeVar("V")

BEGINNING: Version = (0, 0)
END: Version = (9999, 9999)
"""The bounds of all versions: no version of any API comes before or after."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """`rule` holds from the version `since` on, and not before. Handlers ask for it by name."""

    since: Version
    rule: str

    def at(self, version: Version) -> bool:
        return version >= self.since


@dataclass(frozen=True, slots=True)
class Field(Generic[V]):
    """`until` is the last version that has it. A name may occur twice, in other versions with another value.
    `required`: a body without it is refused."""

    name: str
    value: V
    since: Version = BEGINNING
    until: Version = END
    required: bool = False

    def at(self, version: Version) -> bool:
        return self.since <= version <= self.until


Read = Callable[[T], Any]
"""Reads a field's value from what a document is about."""


class View(Generic[T]):
    """A document about a T. Its fields at one version are found once."""

    def __init__(self, *fields: Field[Read[T]]) -> None:
        self._at = lru_cache(maxsize=None)(lambda version: tuple(values_at(fields, version).items()))

    def at(self, version: Version, subject: T) -> dict[str, Any]:
        """The document as this version shows it."""
        return {name: read(subject) for name, read in self._at(version)}


def values_at(fields: tuple[Field[V], ...], version: Version) -> dict[str, V]:
    """The fields of a version by name, in the order of the table."""
    return {field.name: field.value for field in fields if field.at(version)}


def value_at(table: tuple[tuple[Version, V], ...], version: Version) -> V:
    """The value of the last row that begins no later than the version. The first row begins with the oldest one."""
    return next(value for since, value in reversed(table) if since <= version)


def bodies_of(make: Callable[[Schema], Schema], *fields: Field[Schema], since: Version = BEGINNING) -> ByVersion:
    """The schemas that `make` builds around an object with the fields of a version and no others, for each version at
    which they change. `since`: the first version that has the route."""

    def at(version: Version) -> Schema:
        required = [field.name for field in fields if field.required and field.at(version)]
        return make(strict(values_at(fields, version), *required))

    return by_version(at, *starts(fields, since))


def queries_of(*fields: Field[Schema], closed: Version, **more: Any) -> ByVersion:
    """Queries with these parameters, each the schema of its list of values (`many`, `once`).

    Other parameters are refused from the version `closed` on. `more`: further keywords of the schemas.
    """

    def at(version: Version) -> Schema:
        known = {"type": "object", "properties": values_at(fields, version)}
        return {**known, **more, "additionalProperties": version < closed}

    return by_version(at, *sorted({*starts(fields), closed}))


def many(value: Schema) -> Schema:
    """A query's parameter that may be repeated."""
    return {"type": "array", "items": value}


def once(value: Schema) -> Schema:
    """A query's parameter that may not."""
    return {"type": "array", "items": value, "maxItems": 1}


def fields_of(name: str, schemas: ByVersion) -> tuple[Field[Schema], ...]:
    """The field of a body whose own schema changes with the version."""
    ends = [*(_before(since) for since, _ in schemas[1:]), END]
    return tuple(
        Field(name, schema, since, until)
        for (since, schema), until in zip(schemas, ends, strict=True)
        if schema is not None
    )


def starts(fields: tuple[Field[V], ...], since: Version = BEGINNING) -> list[Version]:
    """The versions at which the fields are others than before; the first is `since`."""
    ends = {after(field.until) for field in fields if field.until != END}
    return sorted(version for version in {since, *(field.since for field in fields), *ends} if version >= since)


def after(version: Version) -> Version:
    return version[0], version[1] + 1


def _before(version: Version) -> Version:
    return version[0], version[1] - 1
