"""Times as clients and the APIs write them."""

from __future__ import annotations

from datetime import UTC, datetime


def parse_timestamp(text: str) -> datetime:
    """A time as clients write it, in UTC; it is UTC where they don't say. Raises ValueError, also for a time that
    there is in their zone but not in UTC."""
    written = datetime.fromisoformat(text)
    try:
        return written.astimezone(UTC) if written.tzinfo else written.replace(tzinfo=UTC)
    except OverflowError as error:
        raise ValueError(f"{text[:64]} is no time") from error


def end_of_second(moment: datetime) -> datetime:
    """The last moment that is shown as the same second."""
    return moment.replace(microsecond=999_999)


def latest_meant(moment: datetime) -> datetime:
    """The last moment that a client may mean which writes this one: a whole second is all of it."""
    return moment if moment.microsecond else end_of_second(moment)


def with_fraction(moment: datetime | None) -> str | None:
    """`2026-01-31T12:00:00.000000`, UTC without saying so."""
    if moment is None:
        return None
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds")


def in_seconds(moment: datetime | None) -> str | None:
    """`2026-01-31T12:00:00Z`."""
    return None if moment is None else f"{moment.isoformat()[:19]}Z"
