"""Bodies and queries of key pairs."""

from __future__ import annotations

from api_cell.edge.shapes import NAME, TEXT, WHOLE, wrapped
from api_cell.edge.versioned import Field, bodies_of, many, queries_of

CREATE = bodies_of(
    lambda fields: wrapped("keypair", fields),
    Field("name", {**NAME, "pattern": r"^[_\- a-zA-Z0-9]+$"}, until=(2, 91), required=True),
    Field("name", {**NAME, "pattern": r"^[_\-\@\. a-zA-Z0-9]+$"}, since=(2, 92), required=True),
    Field("public_key", TEXT, until=(2, 91)),
    Field("public_key", TEXT, since=(2, 92), required=True),
    Field("type", {"type": "string", "enum": ["ssh", "x509"]}, since=(2, 2)),
    Field("user_id", TEXT, since=(2, 10)),
)
_USER = Field("user_id", many(TEXT), since=(2, 10))
ONE = queries_of(_USER, closed=(2, 75))
LIST = queries_of(
    _USER, Field("limit", many(WHOLE), since=(2, 35)), Field("marker", many(TEXT), since=(2, 35)), closed=(2, 75)
)
