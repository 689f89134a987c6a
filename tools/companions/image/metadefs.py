"""Metadata definitions of the Image API: namespaces, and what each has of properties, objects, tags and resource types.

Users read the public namespaces and those of their project; administrators make and change them.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from sqlalchemy import Connection, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from cell_service.db.sql.engine import Database
from cell_service.errors import Conflict, Forbidden, Invalid, NotFound
from cell_service.http.response import Response
from tools.companions.image import store
from tools.companions.route import CompanionRequest, CompanionRoute
from tools.companions.shapes import TEXT, WORD, item

Record = dict[str, Any]
ROOT = "/v2/metadefs/namespaces"
PARTS = {
    "properties": "properties",
    "objects": "objects",
    "tags": "tags",
    "resource_types": "resource_type_associations",
}
"""The last word of a part's path → its key in documents."""
_LONG = {"type": ["string", "null"], "maxLength": 500}
_ENTRY = item("name", name=WORD)
_ENTRIES = {"type": "array", "items": _ENTRY}
NAMESPACE = item(
    "namespace", namespace={**WORD, "maxLength": 80}, display_name={**TEXT, "maxLength": 80}, description=_LONG,
    visibility={"enum": ["public", "private"]}, protected={"type": "boolean"}, owner=TEXT,
    properties={"type": "object", "additionalProperties": {"type": "object"}}, objects=_ENTRIES, tags=_ENTRIES,
    resource_type_associations=_ENTRIES,
)  # fmt: skip
_OWN = ("display_name", "description", "visibility", "protected", "owner")


class Metadefs:
    """The handlers of metadata definitions."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def routes(self) -> tuple[CompanionRoute, ...]:
        one = f"{ROOT}/{{namespace}}"
        return (
            CompanionRoute("GET", "/v2/metadefs/resource_types", self.resource_types),
            CompanionRoute("GET", ROOT, self.index),
            CompanionRoute("POST", ROOT, self.create, body=NAMESPACE),
            CompanionRoute("GET", one, self.show),
            CompanionRoute("PUT", one, self.change, body=NAMESPACE),
            CompanionRoute("DELETE", one, self.delete),
            CompanionRoute("GET", f"{one}/{{part}}", self.part),
            CompanionRoute("POST", f"{one}/{{part}}", self.put_entry, body=_ENTRY),
            CompanionRoute("DELETE", f"{one}/{{part}}", self.clear_part),
            CompanionRoute("GET", f"{one}/{{part}}/{{name}}", self.entry),
            CompanionRoute("PUT", f"{one}/{{part}}/{{name}}", self.put_entry, body=_ENTRY),
            CompanionRoute("DELETE", f"{one}/{{part}}/{{name}}", self.remove_entry),
        )

    def resource_types(self, req: CompanionRequest) -> Response:
        """The resource types that namespaces are associated with."""
        with self._db.connect() as tx:
            found = _seen(tx, req)
        names = sorted({name for one in found for name in one["doc"]["resource_types"]})
        return Response(200, {"resource_types": [{"name": name} for name in names]})

    def index(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            found = _seen(tx, req)
        visibility, types = req.one("visibility"), req.one("resource_types")
        found = [one for one in found if visibility in (None, one["visibility"])]
        if types:
            found = [one for one in found if one["doc"]["resource_types"].keys() & set(types.split(","))]
        marker, limit = req.one("marker"), req.one("limit")
        if marker is not None:
            names = [one["namespace"] for one in found]
            if marker not in names:
                raise Invalid(reason=f"Namespace {marker} could not be found.")
            found = found[names.index(marker) + 1 :]
        page = found[: int(limit)] if limit and limit.isdecimal() and len(limit) < 10 else found
        body: Record = {"namespaces": [_view(one) for one in page], "first": ROOT,
                        "schema": "/v2/schemas/metadefs/namespaces"}  # fmt: skip
        if page and len(page) < len(found):
            body["next"] = f"{ROOT}?marker={quote(page[-1]['namespace'])}&limit={limit}"
        return Response(200, body)

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, _whole(_visible(tx, req)))

    def create(self, req: CompanionRequest) -> Response:
        """201 with all of it; 409 when there is a namespace of that name."""
        req.demand_admin()
        given, moment = req.body, store.now()
        row = {"namespace": given["namespace"], "created_at": moment, "updated_at": moment, **_fields(req, given)}
        row["doc"] = {part: _by_name(given.get(key) or {}) for part, key in PARTS.items()}

        def work(tx: Connection) -> Record:
            tx.execute(insert(store.namespaces).values(**row))
            return _find(tx, row["namespace"])

        try:
            made = self._db.run(work)
        except IntegrityError as error:
            raise Conflict(reason=f"A metadata definition namespace={row['namespace']} already exists.") from error
        return Response(201, _whole(made), {"Location": f"{req.origin}{ROOT}/{quote(made['namespace'])}"})

    def change(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        fields = _fields(req, req.body)

        def work(tx: Connection) -> Record:
            old = _visible(tx, req)
            if req.body["namespace"] != old["namespace"]:
                raise Forbidden(reason="A namespace keeps its name.")
            _change(tx, old, **fields)
            return _find(tx, old["namespace"])

        return Response(200, _view(self._db.run(work)))

    def delete(self, req: CompanionRequest) -> Response:
        req.demand_admin()

        def work(tx: Connection) -> None:
            old = _visible(tx, req)
            if old["protected"]:
                raise Forbidden(reason=f"Metadata definition namespace={old['namespace']} is protected.")
            tx.execute(delete(store.namespaces).where(store.namespaces.c.namespace == old["namespace"]))

        self._db.run(work)
        return Response(204)

    def part(self, req: CompanionRequest) -> Response:
        part = _part(req)
        with self._db.connect() as tx:
            return Response(200, {PARTS[part]: _shown(part, _visible(tx, req)["doc"][part])})

    def entry(self, req: CompanionRequest) -> Response:
        part = _part(req)
        with self._db.connect() as tx:
            found = _visible(tx, req)["doc"][part].get(req.params["name"])
        if found is None:
            raise _missing(req)
        return Response(200, found)

    def put_entry(self, req: CompanionRequest) -> Response:
        """201 for a new one (409 when it is there), 200 for one that was there."""
        req.demand_admin()
        part, name, entry = _part(req), req.params.get("name"), dict(req.body)

        def work(tx: Connection) -> None:
            old = _visible(tx, req)
            entries = dict(old["doc"][part])
            if name is None and entry["name"] in entries:
                raise Conflict(reason=f"{entry['name']} already exists in namespace={old['namespace']}.")
            if name is not None and name not in entries and part != "tags":
                raise _missing(req)
            entries.pop(name, None)
            _change(tx, old, doc={**old["doc"], part: {**entries, entry["name"]: entry}})

        self._db.run(work)
        return Response(201 if name is None else 200, entry)

    def remove_entry(self, req: CompanionRequest) -> Response:
        return self._left(req, lambda name: name != req.params["name"])

    def clear_part(self, req: CompanionRequest) -> Response:
        return self._left(req, lambda name: False)

    def _left(self, req: CompanionRequest, stays: Any) -> Response:
        req.demand_admin()
        part = _part(req)

        def work(tx: Connection) -> None:
            old = _visible(tx, req)
            left = {name: entry for name, entry in old["doc"][part].items() if stays(name)}
            if "name" in req.params and len(left) == len(old["doc"][part]):
                raise _missing(req)
            _change(tx, old, doc={**old["doc"], part: left})

        self._db.run(work)
        return Response(204)


def _seen(tx: Connection, req: CompanionRequest) -> list[Record]:
    rows = tx.execute(select(store.namespaces).order_by(store.namespaces.c.namespace)).mappings()
    return [dict(row) for row in rows if _may_see(req, row)]


def _may_see(req: CompanionRequest, row: Any) -> bool:
    return req.is_admin or row["visibility"] == "public" or row["owner"] == req.caller.project_id


def _find(tx: Connection, name: str) -> Record:
    row = tx.execute(select(store.namespaces).where(store.namespaces.c.namespace == name)).mappings().first()
    if row is None:
        raise NotFound(reason=f"Metadata definition namespace={name} was not found.")
    return dict(row)


def _visible(tx: Connection, req: CompanionRequest) -> Record:
    """The namespace of the path. Raises NotFound."""
    found = _find(tx, req.params["namespace"])
    if not _may_see(req, found):
        raise NotFound(reason=f"Metadata definition namespace={found['namespace']} was not found.")
    return found


def _change(tx: Connection, old: Record, **values: Any) -> None:
    which = store.namespaces.c.namespace == old["namespace"]
    tx.execute(update(store.namespaces).where(which).values(**values, updated_at=store.now()))


def _fields(req: CompanionRequest, given: Record) -> Record:
    usual = {"visibility": "private", "protected": False, "owner": req.caller.project_id}
    return {name: given.get(name, usual.get(name)) for name in _OWN}


def _by_name(entries: Any) -> Record:
    if isinstance(entries, dict):
        return {name: {**entry, "name": name} for name, entry in entries.items()}
    return {entry["name"]: entry for entry in entries}


def _part(req: CompanionRequest) -> str:
    """Raises NotFound."""
    if req.params["part"] not in PARTS:
        raise NotFound(reason="The resource could not be found.")
    return req.params["part"]


def _missing(req: CompanionRequest) -> NotFound:
    return NotFound(reason=f"{req.params['name']} was not found in namespace={req.params['namespace']}.")


def _shown(part: str, entries: Record) -> Any:
    return entries if part == "properties" else list(entries.values())


def _view(row: Record) -> Record:
    return {
        **{name: row[name] for name in ("namespace", *_OWN, "created_at", "updated_at") if row[name] is not None},
        "resource_type_associations": _shown("resource_types", row["doc"]["resource_types"]),
        "self": f"{ROOT}/{quote(row['namespace'])}",
        "schema": "/v2/schemas/metadefs/namespace",
    }


def _whole(row: Record) -> Record:
    return _view(row) | {key: _shown(part, row["doc"][part]) for part, key in PARTS.items()}
