"""Orders: keys that the key manager makes itself. They are made when the order is answered."""

from __future__ import annotations

import secrets as random
from typing import Any

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import Forbidden, Invalid, NotFound
from cell_service.http.response import Response
from tools.companions.keys.secrets import OCTETS, Secrets, ref
from tools.companions.route import CompanionRequest
from tools.companions.volume import store
from tools.companions.volume.store import Record


class Orders:
    """The handlers of /orders."""

    def __init__(self, db: Database, secrets: Secrets) -> None:
        self._db, self._secrets = db, secrets

    def create(self, req: CompanionRequest) -> Response:
        requested = req.body if isinstance(req.body, dict) else {}
        meta: Record = requested["meta"]
        if requested["type"] != "key":
            raise Invalid(reason=f"Order type {requested['type']} is not supported: keys are symmetric here.")
        bits = meta.get("bit_length")
        if not bits or not meta.get("algorithm"):
            raise Invalid(reason="'algorithm' and 'bit_length' are required field for key type order")

        def work(tx: Connection) -> Record:
            wanted = {**meta, "secret_type": "symmetric"}
            made = self._secrets.add(tx, req, wanted, random.token_bytes(bits // 8), OCTETS)
            return store.add(
                tx, "order", req.caller.project_id, None, meta=meta, secret_id=made["id"],
                creator_id=req.caller.user_id,
            )  # fmt: skip

        return Response(202, {"order_ref": ref(req, self._db.run(work)["id"], "orders")})

    def index(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            found = store.search(tx, "order", project_id=req.caller.project_id)
        return Response(200, {"orders": [_view(req, one) for one in found], "total": len(found)})

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, _view(req, _own(tx, req)))

    def delete(self, req: CompanionRequest) -> Response:
        """The key that was ordered stays."""
        self._db.run(lambda tx: store.remove(tx, _own(tx, req)["id"]))
        return Response(204)


def _own(tx: Connection, req: CompanionRequest) -> Record:
    found = store.find(tx, "order", req.params["id"])
    if found is None:
        raise NotFound(reason="Not Found. Sorry but your order is in another castle.")
    if found["project_id"] != req.caller.project_id:
        raise Forbidden(reason="Order retrieval attempt not allowed - please review your user/project privileges.")
    return found


def _view(req: CompanionRequest, order: Record) -> dict[str, Any]:
    return {
        "type": "key", "status": "ACTIVE", "meta": order["meta"], "creator_id": order["creator_id"],
        "order_ref": ref(req, order["id"], "orders"), "secret_ref": ref(req, order["secret_id"]),
        "created": order["created_at"], "updated": order["updated_at"] or order["created_at"],
    }  # fmt: skip
