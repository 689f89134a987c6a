"""Values that a flavor's extra specs and an image's properties may both have, and the rules for which of them counts.

Extra specs are checked when they are set only from microversion 2.86 on, and properties never: so wrong values of both
are refused here. Messages are Nova's where it has one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from cell_service.errors import FlavorImageConflict, Invalid
from cell_service.model.numbers import INT64

T = TypeVar("T")
_TRUE, _FALSE = frozenset({"1", "t", "true", "on", "y", "yes"}), frozenset({"0", "f", "false", "off", "n", "no"})


@dataclass(frozen=True, slots=True)
class Pair:
    """Extra specs and image properties. An empty value counts as none."""

    specs: Mapping[str, str]
    properties: Mapping[str, str]

    def spec(self, name: str, choices: frozenset[str] | None = None) -> str | None:
        return _chosen("flavor extra spec", name, self.specs.get(name), choices)

    def prop(self, name: str, choices: frozenset[str] | None = None) -> str | None:
        return _chosen("image property", name, self.properties.get(name), choices)

    def spec_flag(self, name: str) -> bool | None:
        return _flag("flavor extra spec", name, self.specs.get(name))

    def prop_flag(self, name: str) -> bool | None:
        return _flag("image property", name, self.properties.get(name))

    def spec_number(self, name: str, least: int = 0) -> int | None:
        return _number("flavor extra spec", name, self.specs.get(name), least)

    def prop_number(self, name: str, least: int = 0) -> int | None:
        return _number("image property", name, self.properties.get(name), least)

    def same(self, name: str, choices: frozenset[str]) -> str | None:
        """The value that either has; both, when they are the same. Raises FlavorImageConflict."""
        return _same(name, self.spec(f"hw:{name}", choices), self.prop(f"hw_{name}", choices))

    def same_flag(self, name: str) -> bool | None:
        """As `same`, for yes and no."""
        return _same(name, self.spec_flag(f"hw:{name}"), self.prop_flag(f"hw_{name}"))


def conflict(setting: str, flavor_value: object, image_value: object) -> FlavorImageConflict:
    return FlavorImageConflict(setting=setting, flavor_value=flavor_value, image_value=image_value)


def _same(name: str, flavor_value: T | None, image_value: T | None) -> T | None:
    if flavor_value is not None and image_value is not None and flavor_value != image_value:
        raise conflict(name, flavor_value, image_value)
    return image_value if flavor_value is None else flavor_value


def _chosen(what: str, name: str, value: str | None, choices: frozenset[str] | None) -> str | None:
    if not value:
        return None
    if choices is not None and value not in choices:
        raise Invalid(reason=f"Invalid value '{value}' of {what} {name}. Allowed values: {', '.join(sorted(choices))}.")
    return value


def _flag(what: str, name: str, value: str | None) -> bool | None:
    plain = (value or "").strip().lower()
    if not plain:
        return None
    if plain not in _TRUE | _FALSE:
        raise Invalid(reason=f"Invalid value '{value}' of {what} {name}: it is neither yes nor no.")
    return plain in _TRUE


def _number(what: str, name: str, value: str | None, least: int) -> int | None:
    if not value:
        return None
    try:
        number = int(value)
    except ValueError:
        number = None
    if number is None or number not in INT64 or number < least:
        raise Invalid(reason=f"Invalid value '{value}' of {what} {name}: it is no whole number from {least} on.")
    return number
