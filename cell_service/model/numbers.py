"""The whole numbers that every database can keep."""

from __future__ import annotations

INT64 = range(-(2**63), 2**63)
