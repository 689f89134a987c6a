"""The nouns of the Network API: each with its attributes, and hooks for its special rules.

Writers queue up in the database (BEGIN IMMEDIATE), so a check is valid until what it allowed is written.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from api_cell.edge.route import Schema
from tools.companions.route import CompanionRequest
from tools.companions.shapes import TEXT, item, listed

Record = dict[str, Any]
_TEXT: Schema = {"type": "string", "maxLength": 255}
_ENTRY: Schema = {"type": "object", "additionalProperties": {"type": ["string", "null"], "maxLength": 255}}
KINDS: dict[str, Schema] = {
    "text": _TEXT,
    "text?": TEXT,
    "bool": {"type": "boolean"},
    "bool?": {"type": ["boolean", "null"]},
    "int": {"type": "integer"},
    "int?": {"type": ["integer", "null"]},
    "number or text?": {"type": ["integer", "string", "null"], "maxLength": 255},
    "texts": listed(_TEXT),
    "texts?": {**listed(_TEXT), "type": ["array", "null"]},
    "entries": listed(_ENTRY),
    "entries?": {**listed(_ENTRY), "type": ["array", "null"]},
    "options?": {
        "type": ["array", "null"],
        "items": item(opt_name=_TEXT, opt_value=TEXT, ip_version={"type": ["integer", "string"]}),
    },
    "subports": listed(
        item("port_id", port_id=_TEXT, segmentation_type=TEXT, segmentation_id={"type": ["integer", "string"]})
    ),
    "dict": {"type": "object"},
    "dict?": {"type": ["object", "null"]},
    "gateway?": {
        "type": ["object", "null"],
        "properties": {
            "network_id": TEXT,
            "enable_snat": {"type": ["boolean", "null"]},
            "external_fixed_ips": {**listed(_ENTRY), "type": ["array", "null"]},
        },
    },
}
"""The schema of the values that an attribute may have."""
REQUIRED = object()


@dataclass(frozen=True, slots=True)
class Attr:
    """`default` REQUIRED: must be given. `fixed`: set on create only. `admin`: set by administrators only.
    `hidden`: shown to administrators only. `computed`: never given."""

    kind: str = "text"
    default: Any = ""
    fixed: bool = False
    admin: bool = False
    hidden: bool = False
    computed: bool = False


def _nothing(*_arguments: object) -> None:
    """A hook that does nothing."""


def _own_or_shared(req: CompanionRequest, record: Record) -> bool:
    return bool(record["project_id"] == req.caller.project_id or record.get("shared"))


@dataclass(frozen=True, slots=True)
class Noun:
    """Hooks, all in the transaction of the write: `making` completes and checks a new record before it is stored,
    `made` does what follows; `changing` checks what is about to change (and may complete it); `removing` checks and
    clears. `complete` adds to records what is kept elsewhere."""

    name: str
    attrs: dict[str, Attr]
    path: str = ""
    key: str = ""
    """Its name in bodies, where that is another."""
    many: str = ""
    """The plural of that name, where it is no usual one."""
    making: Callable[[Connection, CompanionRequest, Record], None] = _nothing
    made: Callable[[Connection, CompanionRequest, Record], None] = _nothing
    changing: Callable[[Connection, CompanionRequest, Record, Record], None] = _nothing
    removing: Callable[[Connection, CompanionRequest, Record], None] = _nothing
    complete: Callable[[Connection, list[Record]], None] = _nothing
    visible: Callable[[CompanionRequest, Record], bool] = _own_or_shared
    narrowed: Callable[[Connection, CompanionRequest], dict[str, list[str]]] = field(default=lambda tx, req: {})
    written: Callable[[list[Record]], None] = _nothing
    """Called after a write was committed, before it is answered; may complete the answer, which is empty after a
    delete."""
    changed: Callable[[Record, Record], None] = _nothing
    """Called after a write was committed, with what the record was (empty: there was none), and is (empty: it is
    gone)."""
    listing: Callable[[Connection, CompanionRequest], None] | None = None
    """A write to be made before a listing."""

    @property
    def singular(self) -> str:
        return self.key or self.name

    @property
    def plural(self) -> str:
        return self.many or f"{self.singular}s"

    @property
    def segment(self) -> str:
        return self.path or self.plural
