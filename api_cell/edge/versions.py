"""Microversions: which one a request names, and the headers that say which one it got."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from api_cell.edge.api import Api, Versioning
from api_cell.edge.route import Version
from cell_service.errors import Invalid, NotAcceptable


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
    version = _parsed(api.versioning, requested)
    if not api.min_version <= version <= api.max_version:
        raise NotAcceptable(
            reason=api.versioning.unknown.format(
                version=requested, lowest=shown(api.min_version), highest=shown(api.max_version)
            )
        )
    return version


def version_headers(api: Api, version: Version) -> dict[str, str]:
    """The headers of an answer given at this version."""
    made = {"OpenStack-API-Version": f"{api.service_type} {shown(version)}", "Vary": api.versioning.vary}
    if api.legacy_header:
        made[api.legacy_header] = shown(version)
        made["Vary"] = f"{api.versioning.vary}, {api.legacy_header}"
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
def _parsed(versioning: Versioning, requested: str) -> Version:
    match = re.fullmatch(versioning.form, requested)
    if match is None:
        raise Invalid(reason=versioning.malformed.format(version=requested[:64]))
    return int(match[1]), int(match[2])
