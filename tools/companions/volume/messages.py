"""Errors that come after the answer to a request, for users to read: /messages (Block Storage API, as of 3.3)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import Enum

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.http.response import Response
from tools.companions.route import CompanionRequest
from tools.companions.volume import store
from tools.companions.volume.store import Record
from tools.companions.volume.visibility import listed, visible

KEPT_DAYS = 30


class Action(Enum):
    """Number and words, as the block storage service has published them (cinder/message/message_field.py)."""

    ALLOCATE = ("001", "schedule allocate volume")
    TO_IMAGE = ("003", "copy volume to image")
    FROM_IMAGE = ("005", "copy image to volume")
    EXTEND = ("007", "extend volume")
    CREATE = ("008", "create volume from backend storage")
    SNAPSHOT = ("009", "create snapshot")


class Detail(Enum):
    """As of actions."""

    UNKNOWN = ("001", "An unknown error occurred.")
    NO_BACKEND = ("003", "Could not find any available weighted backend.")
    UPLOAD = ("004", "Failed to upload volume to image at backend.")
    IMAGE_SPACE = ("007", "Image used for creating volume exceeds available space.")


def add(tx: Connection, record: Record, noun: str, action: Action, detail: Detail, reason: str = "") -> None:
    """Add an error about a volume or a snapshot (`noun`)."""
    kind = f"VOLUME_{noun.upper()}"
    words = f"{action.value[1]}: {detail.value[1]}"
    store.add(
        tx, "message", record["project_id"], record["id"], resource_uuid=record["id"], resource_type=kind,
        event_id=f"{kind}_{action.value[0]}_{detail.value[0]}", message_level="ERROR", request_id=None,
        user_message=f"{words} {reason}".rstrip(),
        guaranteed_until=(datetime.now(UTC) + timedelta(days=KEPT_DAYS)).strftime("%Y-%m-%dT%H:%M:%S.%f"),
    )  # fmt: skip


def forget(tx: Connection) -> None:
    """Remove those that have been there for long enough."""
    now = store.now()
    for one in store.search(tx, "message"):
        if one["guaranteed_until"] < now:
            store.remove(tx, one["id"])


class Messages:
    """The handlers of /messages."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def index(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            found = listed(tx, req, "message")
        wanted = {name: req.one(name) for name in ("resource_uuid", "resource_type", "event_id", "message_level")}
        kept = [one for one in found if all(value in (None, one[name]) for name, value in wanted.items())]
        return Response(200, {"messages": [_view(req, one) for one in kept]})

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"message": _view(req, visible(tx, req, "message", req.params["id"]))})

    def delete(self, req: CompanionRequest) -> Response:
        self._db.run(lambda tx: store.remove(tx, visible(tx, req, "message", req.params["id"])["id"]))
        return Response(204)


def _view(req: CompanionRequest, one: Record) -> Record:
    shown = {name: value for name, value in one.items() if name not in ("project_id", "updated_at")}
    return {**shown, "links": [{"rel": "self", "href": f"{req.origin}/v3/messages/{one['id']}"}]}
