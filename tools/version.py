"""The version of Polycell that is installed."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version


def installed() -> str:
    """Where Polycell runs from its sources alone: unknown."""
    try:
        return version("polycell")
    except PackageNotFoundError:
        return "unknown"
