"""The bodies of requests to the shared file system companion (Shared File Systems API reference, v2)."""

from __future__ import annotations

from tools.companions.shapes import FLAG, METADATA, SIZE, TEXT, WORD, item, under

_NAMED = {"name": TEXT, "description": TEXT, "display_name": TEXT, "display_description": TEXT, "is_public": FLAG}
CREATE = under("share", item(**_NAMED, share_proto=WORD, size=SIZE, metadata=METADATA, availability_zone=TEXT))
UPDATE = under("share", item(**_NAMED))
PUT_METADATA = under("metadata", {**METADATA, "type": "object"})
_ACTIONS = {
    "allow_access": item(
        access_type=WORD, access_to=TEXT, access_level=TEXT, metadata=METADATA, lock_deletion=FLAG,
        lock_visibility=FLAG,
    ),
    "deny_access": item(access_id=WORD, unrestrict=FLAG),
    "extend": item(new_size={"type": "integer", "minimum": 1, "maximum": 2**31 - 1}),
    "shrink": item(new_size={"type": "integer", "minimum": 1, "maximum": 2**31 - 1}),
    "reset_status": item(status=WORD),
}  # fmt: skip
ACTION = item(**_ACTIONS, **{f"os-{name}": content for name, content in _ACTIONS.items()})
