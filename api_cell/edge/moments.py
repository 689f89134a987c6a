"""Times as the APIs write them."""

from __future__ import annotations

from datetime import UTC, datetime


def with_fraction(moment: datetime | None) -> str | None:
    """`2026-01-31T12:00:00.000000`, UTC without saying so."""
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")
