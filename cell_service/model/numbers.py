"""The whole numbers that every database can keep."""

from __future__ import annotations

INT64 = range(-(2**63), 2**63)


def is_whole(text: str) -> bool:
    """Whether the text is a whole number from 0 on, without a sign."""
    return text.isdecimal() and len(text) < 20 and int(text) in INT64
