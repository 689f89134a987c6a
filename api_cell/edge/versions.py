"""Microversions: which one a request names, and the headers that say which one it got."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from api_cell.edge.api import Api
from api_cell.edge.route import Version
from cell_service.errors import Invalid, NotAcceptable

_VERSION = re.compile(r"([1-9][0-9]{0,4})\.(0|[1-9][0-9]{0,4})")


def shown(version: Version) -> str:
    return f"{version[0]}.{version[1]}"


def negotiate(api: Api, headers: Mapping[str, str]) -> Version:
    """The requested version, the lowest when none is. Raises Invalid (malformed), NotAcceptable (out of range)."""
    legacy = headers.get(api.legacy_header) if api.legacy_header else None
    requested = _requested(api.service_type, headers.get("OpenStack-API-Version"), legacy)
    if requested is None:
        return api.min_version
    if requested == "latest":
        return api.max_version
    version = _parsed(requested)
    if not api.min_version <= version <= api.max_version:
        raise NotAcceptable(
            reason=f"Version {requested} is not supported. The lowest is {shown(api.min_version)}, "
            f"the highest {shown(api.max_version)}."
        )
    return version


def version_headers(api: Api, version: Version) -> dict[str, str]:
    """The headers of an answer given at this version."""
    made = {"OpenStack-API-Version": f"{api.service_type} {shown(version)}", "Vary": "OpenStack-API-Version"}
    if api.legacy_header:
        made[api.legacy_header] = shown(version)
        made["Vary"] = f"OpenStack-API-Version, {api.legacy_header}"
    return made


@lru_cache(maxsize=512)
def _requested(service_type: str, standard: str | None, legacy: str | None) -> str | None:
    """The standard header may name several services: `compute 2.53, identity 3.14`."""
    for part in (standard or "").split(","):
        words = part.split()
        if words and words[0].lower() == service_type:
            return " ".join(words[1:]).lower()
    return legacy.strip().lower() if legacy else None


@lru_cache(maxsize=512)
def _parsed(requested: str) -> Version:
    match = _VERSION.fullmatch(requested)
    if match is None:
        raise Invalid(reason=f"API version {requested[:64]!r} is not of the form MAJOR.MINOR.")
    return int(match[1]), int(match[2])
