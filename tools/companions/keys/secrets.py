"""Secrets: what they say of themselves, who may read them, and their payloads, which are sealed in the database."""

from __future__ import annotations

import base64
import binascii
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection

from cell_service.db.sealing import Sealer
from cell_service.db.sql.engine import Database
from cell_service.errors import Conflict, Forbidden, Invalid, NotAcceptable, NotFound, UnsupportedMedia
from cell_service.http.json_body import content_type
from cell_service.http.response import Response
from tools.companions.app import MAY_CHANGE
from tools.companions.route import CompanionRequest
from tools.companions.volume import store
from tools.companions.volume.store import Record

OCTETS, TEXT = "application/octet-stream", "text/plain"
_SHOWN = ("name", "secret_type", "algorithm", "bit_length", "mode", "expiration", "created", "updated")
FIELDS = ("name", "algorithm", "bit_length", "mode", "expiration")
EVERYBODY = {"project-access": True, "users": []}
"""The readers of a secret at first: its project."""


class Secrets:
    """The handlers of /secrets. `sealer`: of the database."""

    def __init__(self, db: Database, sealer: Sealer) -> None:
        self._db, self._sealer = db, sealer

    def create(self, req: CompanionRequest) -> Response:
        requested = req.body if isinstance(req.body, dict) else {}
        payload = _given(requested)
        kind = _media(str(requested.get("payload_content_type"))) if payload is not None else ""
        made = self._db.run(lambda tx: self.add(tx, req, requested, payload, kind))
        return Response(201, {"secret_ref": ref(req, made["id"])})

    def add(self, tx: Connection, req: CompanionRequest, requested: Record, payload: bytes | None, kind: str) -> Record:
        """Store a secret of the caller's; without a payload it is to come. Raises Invalid."""
        if _expiry(requested.get("expiration")) is False:
            raise Invalid(reason="Provided object does not match schema 'Secret': 'expiration' is no time to come.")
        return store.add(
            tx, "secret", req.caller.project_id, None, **{name: requested.get(name) for name in FIELDS},
            secret_type=requested.get("secret_type") or "opaque", creator_id=req.caller.user_id, acl=EVERYBODY,
            content_type=kind, sealed=None if payload is None else self._sealed(payload),
        )  # fmt: skip

    def index(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            found = [one for one in store.search(tx, "secret", project_id=req.caller.project_id) if _may(req, one)]
        name, limit, offset = req.one("name"), _number(req, "limit", 10), _number(req, "offset", 0)
        wanted = [one for one in found if name in (None, one["name"]) and not _is_over(one)]
        shown = [secret_view(req, one) for one in wanted[offset : offset + limit]]
        return Response(200, {"secrets": shown, "total": len(wanted)})

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, secret_view(req, readable(tx, req)))

    def payload(self, req: CompanionRequest) -> Response:
        """The secret itself, as it was given. Readers of a project may not have it."""
        if MAY_CHANGE.isdisjoint(req.caller.roles):
            raise Forbidden(reason="Secret payload retrieval attempt not allowed - please review your permissions.")
        with self._db.connect() as tx:
            found = readable(tx, req)
        if found["sealed"] is None:
            raise NotFound(reason="Not Found. Sorry but your secret has no payload.")
        accepted = [content_type(part) for part in req.headers.get("Accept", "*/*").split(",")]
        if not {found["content_type"], "*/*"} & set(accepted):
            raise NotAcceptable(reason=f"Secret payload is {found['content_type']}.")
        content = base64.b64decode(self._sealer.open(found["sealed"]))
        return Response(200, content, {"Content-Type": found["content_type"], "Cache-Control": "no-store"})

    def set_payload(self, req: CompanionRequest) -> Response:
        """The payload of a secret that was made without one. It never changes again."""
        payload = req.upload.read_bytes() if req.upload is not None else b""
        if req.headers.get("Content-Encoding") == "base64":
            payload = _decoded(payload)
        if not 0 < len(payload) <= 20_000:
            raise Invalid(reason="No payload was given, or it is too large.")
        kind = _media(req.headers.get("Content-Type", OCTETS))

        def work(tx: Connection) -> None:
            found = changeable(tx, req)
            if found["sealed"] is not None:
                raise Conflict(reason="Secret already has data, cannot modify it.")
            store.change(tx, found, {"sealed": self._sealed(payload), "content_type": kind})

        self._db.run(work)
        return Response(204)

    def delete(self, req: CompanionRequest) -> Response:
        self._db.run(lambda tx: store.remove(tx, changeable(tx, req)["id"]))
        return Response(204)

    def acl(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            found = changeable(tx, req)
        times = {"created": found["created_at"], "updated": found["updated_at"] or found["created_at"]}
        return Response(200, {"read": {**found["acl"], **times}})

    def set_acl(self, req: CompanionRequest) -> Response:
        """PUT replaces what PATCH changes; DELETE gives the secret to its project again."""
        said = {} if req.method == "DELETE" else req.content("read")
        wanted = {name: said[name] for name in EVERYBODY if said.get(name) is not None}

        def work(tx: Connection) -> None:
            found = changeable(tx, req)
            before = found["acl"] if req.method == "PATCH" else EVERYBODY
            store.change(tx, found, {"acl": {**before, **wanted}})

        self._db.run(work)
        return Response(200, None if req.method == "DELETE" else {"acl_ref": f"{ref(req, req.params['id'])}/acl"})

    def _sealed(self, payload: bytes) -> str:
        return self._sealer.seal(base64.b64encode(payload).decode())


def ref(req: CompanionRequest, record_id: str, plural: str = "secrets") -> str:
    return f"{req.origin}/v1/{plural}/{record_id}"


def secret_view(req: CompanionRequest, secret: Record) -> dict[str, Any]:
    known = {**secret, "created": secret["created_at"], "updated": secret["updated_at"] or secret["created_at"]}
    content = {"content_types": {"default": secret["content_type"]}} if secret["content_type"] else {}
    shown = {name: known[name] for name in _SHOWN}
    return {
        **shown, **content, "status": "ACTIVE", "creator_id": secret["creator_id"], "consumers": [],
        "secret_ref": ref(req, secret["id"]),
    }  # fmt: skip


def readable(tx: Connection, req: CompanionRequest) -> Record:
    """The secret, of the caller's project or one whose access list has the caller. Raises NotFound, Forbidden."""
    found = store.find(tx, "secret", req.params["id"])
    if found is None or _is_over(found):
        raise NotFound(reason="Not Found. Sorry but your secret is in another castle.")
    if not _may(req, found) and req.caller.user_id not in found["acl"]["users"]:
        raise Forbidden(reason="Secret retrieval attempt not allowed - please review your user/project privileges.")
    return found


def changeable(tx: Connection, req: CompanionRequest) -> Record:
    """As `readable`, of the caller's project alone."""
    found = readable(tx, req)
    if found["project_id"] != req.caller.project_id:
        raise Forbidden(reason="Secret change attempt not allowed - please review your user/project privileges.")
    return found


def _may(req: CompanionRequest, secret: Record) -> bool:
    """Whether it is the caller's project's, and the caller may read it. An administrator of another project may not."""
    ours = secret["project_id"] == req.caller.project_id
    return ours and (secret["acl"]["project-access"] or secret["creator_id"] == req.caller.user_id or req.is_admin)


def _given(requested: Record) -> bytes | None:
    """The payload in the request. Raises Invalid."""
    payload, encoding = requested.get("payload"), requested.get("payload_content_encoding")
    if payload is None:
        return None
    kind = _media(str(requested.get("payload_content_type") or ""))
    if kind == OCTETS:
        if encoding != "base64":
            raise Invalid(reason="payload_content_encoding must be specified when payload_content_type is octets.")
        return _decoded(str(payload).encode())
    return str(payload).encode()


def _decoded(payload: bytes) -> bytes:
    try:
        return base64.b64decode(b"".join(payload.split()), validate=True)
    except binascii.Error:
        raise Invalid(reason="Problem decoding payload: it is not in base64.") from None


def _media(said: str) -> str:
    """Raises UnsupportedMedia."""
    kind = content_type(said)
    if kind not in (OCTETS, TEXT):
        raise UnsupportedMedia(content_type=kind)
    return kind


def _expiry(said: object) -> datetime | bool | None:
    """The time; None where there is none, False where it is none, or has passed."""
    if not said:
        return None
    try:
        when = datetime.fromisoformat(str(said))
    except ValueError:
        return False
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return when if when > datetime.now(UTC) else False


def _is_over(secret: Record) -> bool:
    return _expiry(secret["expiration"]) is False


def _number(req: CompanionRequest, name: str, usual: int) -> int:
    said = req.one(name, "") or ""
    return min(int(said), 1000) if said.isascii() and said.isdigit() and len(said) < 19 else usual
