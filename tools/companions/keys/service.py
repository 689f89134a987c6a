"""The key manager companion (Key Manager API v1 in small): secrets, access lists, and orders of symmetric keys."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import MetaData

from api_cell.edge.auth import Authenticator
from api_cell.edge.route import Schema
from cell_service.db.sealing import sealing_keys_table
from cell_service.db.sql.engine import Database
from cell_service.http.response import Response
from tools.companions.app import Companion, CompanionApi
from tools.companions.keys import schemas
from tools.companions.keys.orders import Orders
from tools.companions.keys.secrets import Secrets
from tools.companions.route import CompanionRequest, CompanionRoute, Handler
from tools.companions.store import open_store
from tools.companions.volume import store

_TITLES = {400: "Bad Request", 403: "Forbidden", 404: "Not Found", 406: "Not Acceptable", 409: "Conflict"}


def make_keys(state_dir: Path, authenticator: Authenticator, wrapping_keys: Sequence[str] = ()) -> Companion:
    """The service on the data of that directory. `wrapping_keys`: those of `[secrets] keys`, which wrap the key by
    which payloads are sealed. Raises SecretsUnreadable, Invalid."""
    db = open_store(state_dir, "keys", store.metadata, wrapping_keys)
    _make_sealing_keys(db)
    secrets = Secrets(db, db.sealer())
    orders = Orders(db, secrets)
    table: tuple[tuple[str, str, Handler] | tuple[str, str, Handler, Schema], ...] = (
        ("GET", "/secrets", secrets.index),
        ("POST", "/secrets", secrets.create, schemas.CREATE_SECRET),
        ("GET", "/secrets/{id}", secrets.show),
        ("DELETE", "/secrets/{id}", secrets.delete),
        ("GET", "/secrets/{id}/payload", secrets.payload),
        ("GET", "/secrets/{id}/acl", secrets.acl),
        ("PUT", "/secrets/{id}/acl", secrets.set_acl, schemas.ACL),
        ("PATCH", "/secrets/{id}/acl", secrets.set_acl, schemas.ACL),
        ("DELETE", "/secrets/{id}/acl", secrets.set_acl),
        ("GET", "/orders", orders.index),
        ("POST", "/orders", orders.create, schemas.CREATE_ORDER),
        ("GET", "/orders/{id}", orders.show),
        ("DELETE", "/orders/{id}", orders.delete),
    )
    routes = (
        CompanionRoute("GET", "/", _versions, open=True),
        CompanionRoute("GET", "/v1", _versions, open=True),
        CompanionRoute("PUT", "/v1/secrets/{id}", secrets.set_payload, takes_file=True),
        *(
            CompanionRoute(method, f"/v1{path}", handler, body=next(iter(body), None))
            for method, path, handler, *body in table
        ),
    )
    return Companion(
        CompanionApi("key-manager", routes, _error, authenticator, upload_directory=state_dir, close=db.dispose)
    )


def _make_sealing_keys(db: Database) -> None:
    tables = MetaData()
    sealing_keys_table(tables)
    with db.begin() as tx:
        tables.create_all(tx)


def _versions(req: CompanionRequest) -> Response:
    version = {
        "id": "v1", "status": "CURRENT", "version": "1.0", "min_version": "1.0", "max_version": "1.0",
        "updated": "2026-01-01T00:00:00Z",
        "links": [{"rel": "self", "href": f"{req.origin}/v1/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.key-manager-v1+json"}],
    }  # fmt: skip
    if req.path.rstrip("/") == "/v1":
        return Response(200, {"version": version})
    return Response(300, {"versions": [version]})


def _error(status: int, kind: str, message: str) -> dict[str, Any]:
    return {"code": status, "title": _TITLES.get(status, kind), "description": message}
