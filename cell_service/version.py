"""The version of Polycell that is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed() -> str:
    """The installed version; `unknown` where Polycell runs from its sources alone."""
    try:
        return version("polycell")
    except PackageNotFoundError:
        return "unknown"
