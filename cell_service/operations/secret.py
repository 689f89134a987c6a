"""Arguments that are secret: they are sealed while their operation is pending, and dropped when it ends."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, TypeVar

from cell_service import wire

T = TypeVar("T")

_MARK = "secret"
Secret = Annotated[T, _MARK]
"""The type of a field that no table, log or notification may have in clear."""


def names_of(arguments: type) -> tuple[str, ...]:
    """The secret fields of a dataclass."""
    return _names(arguments)


@cache
def _names(arguments: object) -> tuple[str, ...]:
    hints = typing.get_type_hints(arguments, include_extras=True)
    return tuple(name for name, hint in hints.items() if _MARK in getattr(hint, "__metadata__", ()))


def taken_from(value: T) -> tuple[T, dict[str, str]]:
    """The value without its secrets, and the secrets by field."""
    names = names_of(type(value))
    found = {name: getattr(value, name) for name in names}
    if not names:
        return value, {}
    bare = dataclasses.replace(value, **dict.fromkeys(names, ""))  # type: ignore[type-var]
    return bare, {name: text for name, text in found.items() if text}


def stored_form(arguments: object) -> dict[str, Any]:
    """The plain form of arguments in which they are stored: without secrets, and without what is None."""
    bare, _ = taken_from(arguments)
    left_out = names_of(type(arguments))
    plain: dict[str, Any] = wire.to_plain(bare)
    return {name: value for name, value in plain.items() if value is not None and name not in left_out}


def without_secrets(arguments: type, plain: Mapping[str, Any]) -> dict[str, Any]:
    """Stored arguments without secrets, which earlier versions stored in clear."""
    return {name: value for name, value in plain.items() if name not in names_of(arguments)}
