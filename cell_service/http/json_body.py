"""JSON that clients send: read strictly, so that whatever is read can be walked through and stored."""

from __future__ import annotations

import json
from math import isinf
from typing import Any, NoReturn

from cell_service.model.numbers import INT64

_DEEPEST = 100


class NumberTooLarge(ValueError):
    """A number of the body is beyond 64 bits, which no database column takes."""


def parse_json(raw: bytes) -> Any:
    """The data. Raises ValueError for what is no JSON, is nested deeper than any request, or that no database takes."""
    try:
        body = json.loads(
            raw.decode(), parse_constant=_not_a_number, parse_int=_whole_number, parse_float=_finite_number
        )
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    _check_depth(raw, body)
    if b"\\u" in raw or b"\x00" in raw:
        _check_storable(body)
    return body


def content_type(header: str) -> str:
    """The media type of a Content-Type header, without its parameters."""
    return header.partition(";")[0].strip().lower()


def _not_a_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _whole_number(digits: str) -> int:
    number = int(digits)
    if number not in INT64:
        raise NumberTooLarge(digits[:64])
    return number


def _finite_number(digits: str) -> float:
    number = float(digits)
    if isinf(number):
        raise NumberTooLarge(digits[:64])
    return number


def _check_depth(raw: bytes, body: object) -> None:
    """Raises ValueError before anything walks through what is nested too deeply."""
    if raw.count(b"{") + raw.count(b"[") <= _DEEPEST:
        return
    level, depth = [body], 0
    while level:
        depth += 1
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        inner = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, (dict, list)))
        level = [value for values in inner for value in values]


def _check_storable(body: object) -> None:
    """Raises ValueError for half surrogates and NUL, which no database takes."""
    text = json.dumps(body, ensure_ascii=False)
    text.encode()
    if "\\u0000" in text:
        raise ValueError("NUL character")
