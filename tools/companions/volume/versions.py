"""Microversions of the Block Storage API: which one a request is for, and what answers say of it."""

from __future__ import annotations

from collections.abc import Mapping

from cell_service.errors import Invalid, NotAcceptable, PolycellError

MIN_VERSION, MAX_VERSION = "3.0", "3.70"
HEADER = "OpenStack-API-Version"


def requested(headers: Mapping[str, str]) -> tuple[int, int]:
    """The version in the header, 3.0 when it names none. Raises Invalid, NotAcceptable."""
    named = [part.split() for part in headers.get(HEADER, "").split(",")]
    text = next((words[1] for words in named if len(words) == 2 and words[0] == "volume"), MIN_VERSION)
    if text == "latest":
        text = MAX_VERSION
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal() and len(text) < 10):
        raise Invalid(reason=f"API Version String {text[:50]} is of invalid format.")
    version = int(major), int(minor)
    if not (3, 0) <= version <= tuple(map(int, MAX_VERSION.split("."))):
        words = f"Minimum is {MIN_VERSION} and maximum is {MAX_VERSION}."
        raise NotAcceptable(reason=f"Version {text} is not supported by the API. {words}")
    return version


def version_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers of the answer to such a request."""
    try:
        major, minor = requested(headers)
    except PolycellError:
        return {"Vary": HEADER}
    return {HEADER: f"volume {major}.{minor}", "Vary": HEADER}
