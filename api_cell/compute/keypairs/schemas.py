"""Bodies and queries of key pairs."""

from __future__ import annotations

from typing import Any

from api_cell.edge.route import ByVersion, Schema, Version
from api_cell.edge.shapes import NAME, TEXT, WHOLE, by_version, query, strict, wrapped

_NAME_WORDS = r"^[_\- a-zA-Z0-9]+$"
_NAME_WORDS_FROM_292 = r"^[_\-\@\. a-zA-Z0-9]+$"


def _create(version: Version) -> Schema:
    words = _NAME_WORDS_FROM_292 if version >= (2, 92) else _NAME_WORDS
    pair: dict[str, Any] = {"name": {**NAME, "pattern": words}, "public_key": TEXT}
    if version >= (2, 2):
        pair["type"] = {"type": "string", "enum": ["ssh", "x509"]}
    if version >= (2, 10):
        pair["user_id"] = TEXT
    required = ("name", "public_key") if version >= (2, 92) else ("name",)
    return wrapped("keypair", strict(pair, *required))


CREATE = by_version(_create, (2, 1), (2, 2), (2, 10), (2, 92))

_OPEN = query({}, closed=False)
ONE: ByVersion = (
    ((2, 1), _OPEN),
    ((2, 10), query({"user_id": TEXT}, closed=False)),
    ((2, 75), query({"user_id": TEXT}, closed=True)),
)
_PAGED = {"user_id": TEXT, "limit": WHOLE, "marker": TEXT}
LIST: ByVersion = (
    ((2, 1), _OPEN),
    ((2, 10), query({"user_id": TEXT}, closed=False)),
    ((2, 35), query(_PAGED, closed=False)),
    ((2, 75), query(_PAGED, closed=True)),
)
