"""The bodies of requests to the key manager companion (Key Manager API reference, v1)."""

from __future__ import annotations

from api_cell.edge.route import Schema
from tools.companions.shapes import TEXT, WORD, item

MOST_PAYLOAD = 28_000
"""Characters: 20 000 bytes in base64, as the service itself has it."""
BITS: Schema = {"type": ["integer", "null"], "minimum": 1, "maximum": 2**16}
TYPES = ("symmetric", "public", "private", "passphrase", "certificate", "opaque")
CREATE_SECRET = item(
    name=TEXT, expiration=TEXT, algorithm=TEXT, bit_length=BITS, mode=TEXT, payload_content_type=TEXT,
    payload_content_encoding=TEXT, secret_type={"enum": [*TYPES, None]},
    payload={"type": ["string", "null"], "minLength": 1, "maxLength": MOST_PAYLOAD},
)  # fmt: skip
CREATE_ORDER = item(
    "type", "meta", type=WORD,
    meta=item(
        name=TEXT, algorithm=TEXT, bit_length={**BITS, "multipleOf": 8}, expiration=TEXT, mode=TEXT,
        payload_content_type=TEXT,
    ),
)  # fmt: skip
_USERS: Schema = {"type": ["array", "null"], "items": WORD, "maxItems": 100}
ACL = item("read", read=item(**{"project-access": {"type": ["boolean", "null"]}, "users": _USERS}))
