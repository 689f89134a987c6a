"""Key pairs: a user's public keys, imported or (up to 2.91) made here."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from api_cell import quota_check
from api_cell.compute import behaviours
from api_cell.compute.keypairs import keys
from api_cell.edge.links import next_link, page_marker, page_size
from api_cell.edge.route import Request, Response
from api_cell.edge.versioned import Field, View, value_at
from api_cell.timestamps import with_fraction
from mapping_db import key_pairs as rows
from mapping_db import quotas
from mapping_db.key_pairs import KeyPair

_ANY_PROJECT = ""
"""Key pairs belong to a user whatever the project, so they are counted for none."""


def index(req: Request) -> Response:
    """200 {"keypairs": [{"keypair": {...}}, ...]}, by name; in pages from 2.35 on."""
    user_id = _user(req, "index")
    paged = behaviours.KEYS_IN_PAGES.at(req.version)
    most = page_size(req, req.services.settings.api.max_limit) if paged else None
    with req.cloud.db.connect() as tx:
        pairs = rows.page(tx, user_id, page_marker(req) if paged else None, most)
    body: dict[str, Any] = {"keypairs": [{"keypair": _VIEW.at(req.version, pair)} for pair in pairs]}
    if pairs and len(pairs) == most:
        body["keypairs_links"] = next_link(req, "/os-keypairs", pairs[-1].name)
    return Response(200, body)


def show(req: Request) -> Response:
    """200 {"keypair": {...}}."""
    user_id = _user(req, "show")
    with req.cloud.db.connect() as tx:
        pair = rows.get(tx, user_id, req.params["id"])
    view = _VIEW.at(req.version, pair) | {
        "id": pair.id,
        "user_id": pair.user_id,
        "created_at": with_fraction(pair.created_at),
        "updated_at": None,
        "deleted": False,
        "deleted_at": None,
    }
    return Response(200, {"keypair": view})


def create(req: Request) -> Response:
    """201 (200 at 2.1) {"keypair": {...}}, with the private key if it was made here; 409 for a name in use."""
    given = req.body["keypair"]
    user_id = _user(req, "create", given.get("user_id"))
    kind, now = given.get("type", "ssh"), req.cloud.clock.now()
    text = given.get("public_key")
    key = keys.generated(kind, user_id, now) if text is None else keys.imported(kind, text)
    pair = KeyPair(user_id, given["name"], kind, key.fingerprint, key.public_key, now)

    most = quota_check.user_limits(req.cloud, req.services, req.ctx, req.ctx.project_id, user_id)

    def work(tx: Connection) -> None:
        rows.insert_key_pair(tx, pair)
        quotas.reserve(tx, _ANY_PROJECT, user_id, {"key_pairs": 1}, {}, most)

    req.cloud.db.run(work)
    view = _VIEW.at(req.version, pair) | {"user_id": user_id}
    if key.private_key is not None:
        view["private_key"] = key.private_key
    return Response(value_at(_CREATED, req.version), {"keypair": view})


def delete(req: Request) -> Response:
    """204 (202 at 2.1)."""
    user_id = _user(req, "delete")

    def work(tx: Connection) -> None:
        rows.remove(tx, user_id, req.params["id"])
        quotas.release(tx, _ANY_PROJECT, user_id, {"key_pairs": 1})

    req.cloud.db.run(work)
    return Response(value_at(_DELETED, req.version))


def _user(req: Request, verb: str, named: str | None = None) -> str:
    """The user whose keys are meant: from 2.10 on an administrator may act for another. Raises PolicyForbidden."""
    user_id = req.ctx.user_id
    if behaviours.KEYS_OF_OTHER_USERS.at(req.version):
        user_id = named or req.one("user_id") or user_id
    req.demand(f"os_compute_api:os-keypairs:{verb}", {"user_id": user_id})
    return user_id


_CREATED = (((2, 1), 200), ((2, 2), 201))
_DELETED = (((2, 1), 202), ((2, 2), 204))
_VIEW: View[KeyPair] = View(
    Field("name", lambda pair: pair.name),
    Field("public_key", lambda pair: pair.public_key),
    Field("fingerprint", lambda pair: pair.fingerprint),
    Field("type", lambda pair: pair.type, since=(2, 2)),
)
