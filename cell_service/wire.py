"""Values to JSON and back, driven by their type annotations: for messages and for JSON columns.

It encodes dataclasses, enums, datetimes (UTC, ISO 8601), bytes (base64), tuples, lists, dicts with text keys,
None, and plain JSON. Decoding ignores fields it does not know and takes defaults for fields that are missing,
so peers of different age understand each other.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import types
import typing
from collections.abc import Callable
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from typing import Any, TypeVar, cast

T = TypeVar("T")
Decoder = Callable[[Any], Any]
_STORED = "stored"


class Undecodable(ValueError):
    """The text is not a value of the type that was expected."""


def to_plain(value: object) -> Any:
    """The value as plain JSON data. Raises TypeError for what can't be encoded."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Enum):
        return value.value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {stored: to_plain(getattr(value, name)) for name, stored in _fields(type(value))}
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, (tuple, list, frozenset, set)):
        return [to_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    raise TypeError(f"the wire cannot carry a {type(value).__name__}")


def from_plain(kind: type[T], plain: object) -> T:
    """A value of that type. Raises Undecodable."""
    make: Decoder = decoder(cast(Any, kind))
    try:
        return cast(T, make(plain))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise Undecodable(f"not a {getattr(kind, '__name__', kind)}: {error}") from error


def dumps(value: object) -> str:
    return json.dumps(to_plain(value), separators=(",", ":"))


def loads(kind: type[T], text: str | bytes) -> T:
    """Raises Undecodable."""
    try:
        plain = json.loads(text)
    except ValueError as error:
        raise Undecodable(str(error)) from error
    return from_plain(kind, plain)


def stored_as(name: str) -> dict[str, str]:
    """The metadata of a dataclass's field that is encoded under another name than its own."""
    return {_STORED: name}


@cache
def _fields(kind: type) -> tuple[tuple[str, str], ...]:
    """Name of each field, and the name under which it is encoded."""
    fields = (field for field in dataclasses.fields(kind) if field.init)
    return tuple((field.name, field.metadata.get(_STORED, field.name)) for field in fields)


@cache
def decoder(kind: Any) -> Decoder:
    """The function that makes values of a type out of plain data; made once for each type."""
    if kind is Any:
        return _same
    if kind is None or kind is type(None):
        return _none
    origin = typing.get_origin(kind)
    arguments = typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        return _optional(arguments)
    if origin is tuple:
        item = decoder(arguments[0])
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return lambda plain: tuple(map(item, _sequence(plain)))
        items = [decoder(argument) for argument in arguments]
        return lambda plain: tuple(make(part) for make, part in zip(items, _sequence(plain), strict=True))
    if origin in (list, frozenset, set):
        item = decoder(arguments[0])
        return lambda plain: origin(map(item, _sequence(plain)))
    if origin is dict:
        item = decoder(arguments[1])
        return lambda plain: {key: item(part) for key, part in plain.items()}
    if isinstance(kind, type):
        return _class_decoder(kind)
    raise TypeError(f"the wire cannot carry {kind}")


def _class_decoder(kind: type) -> Decoder:
    if dataclasses.is_dataclass(kind):
        return _dataclass_decoder(kind)
    if issubclass(kind, Enum):
        return kind
    if issubclass(kind, datetime):
        return lambda plain: datetime.fromisoformat(plain)
    if kind is bytes:
        return lambda plain: base64.b64decode(plain)
    if kind is float:
        return lambda plain: float(_checked(plain, (int, float)))
    if kind in (str, int, bool):
        return lambda plain: _checked(plain, (kind,))
    if kind in (dict, list):
        return lambda plain: _checked(plain, (kind,))
    raise TypeError(f"the wire cannot carry a {kind.__name__}")


def _dataclass_decoder(kind: type) -> Decoder:
    hints = typing.get_type_hints(kind)
    made: list[tuple[str, str, type | None, Decoder]] = []

    def decode(plain: Any) -> Any:
        if not made:  # only now: a type may contain itself
            made[:] = [(name, stored, _exact(hints[name]), decoder(hints[name])) for name, stored in _fields(kind)]
        values = {}
        for name, stored, exact, make in made:
            if stored in plain:
                value = plain[stored]
                values[name] = value if type(value) is exact else make(value)
        return kind(**values)

    return decode


def _exact(kind: Any) -> type | None:
    """The plain type all of whose values are values of this type unchanged; None when there is none."""
    plain = [choice for choice in typing.get_args(kind) or (kind,) if choice is not type(None)]
    simple = typing.get_origin(kind) in (None, typing.Union, types.UnionType) and len(plain) == 1
    return plain[0] if simple and plain[0] in (str, int, bool) else None


def _optional(arguments: tuple[Any, ...]) -> Decoder:
    choices = [argument for argument in arguments if argument is not type(None)]
    if len(choices) == 1:
        inner = decoder(choices[0])
        return lambda plain: None if plain is None else inner(plain)
    inners = [decoder(choice) for choice in choices]

    def decode(plain: Any) -> Any:
        if plain is None and len(choices) < len(arguments):
            return None
        for inner in inners:
            try:
                return inner(plain)
            except (TypeError, ValueError, KeyError, AttributeError):
                continue
        raise TypeError(f"{plain!r} is none of {choices}")

    return decode


def _same(plain: object) -> Any:
    return plain


def _none(plain: object) -> None:
    if plain is not None:
        raise TypeError(f"{plain!r} is not null")


def _sequence(plain: object) -> list[Any]:
    return cast(list[Any], _checked(plain, (list,)))


def _checked(plain: object, kinds: tuple[type, ...]) -> Any:
    if type(plain) not in kinds:
        raise TypeError(f"{plain!r} is not {kinds[0].__name__}")
    return plain
