"""The little language of extra specs: `>= 4`, `<in> avx`, `<or> a <or> b`, `s== text`, or a plain value."""

from __future__ import annotations

import operator
from collections.abc import Callable

_NUMBERS: dict[str, Callable[[float, float], bool]] = {
    "=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "<=": operator.le,
}
"""`=` requires at least that much, as in nova, for the sake of old flavors."""
_TEXTS: dict[str, Callable[[str, str], bool]] = {
    "s==": operator.eq,
    "s!=": operator.ne,
    "s>=": operator.ge,
    "s>": operator.gt,
    "s<=": operator.le,
    "s<": operator.lt,
}


def matches(value: str, wanted: str) -> bool:
    """Whether a host's value is what an extra spec wants. An expression that can't be read matches nothing."""
    words = wanted.split()
    first = words[0] if words else ""
    rest = words[1:]
    if first == "<or>":
        return value in [word for word in rest if word != "<or>"]
    if first == "<in>":
        return bool(rest) and rest[0] in value
    if first == "<all-in>":
        return bool(rest) and all(word in value for word in rest)
    if first in _TEXTS:
        return len(rest) == 1 and _TEXTS[first](value, rest[0])
    if first in _NUMBERS:
        try:
            return len(rest) == 1 and _NUMBERS[first](float(value), float(rest[0]))
        except ValueError:
            return False
    return value == wanted
