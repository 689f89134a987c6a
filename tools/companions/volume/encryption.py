"""The encryption of volumes of a type, and of each volume that was made of such a type."""

from __future__ import annotations

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import Invalid, NotFound
from cell_service.http.response import Response
from tools.companions.route import CompanionRequest
from tools.companions.volume import store
from tools.companions.volume.store import Record
from tools.companions.volume.types import find_type, in_use
from tools.companions.volume.visibility import visible

FIELDS = ("provider", "control_location", "cipher", "key_size")


class Encryption:
    """The handlers of /types/{id}/encryption, for administrators, and of what a volume says of its encryption."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def show(self, req: CompanionRequest) -> Response:
        """The encryption of a type, without a key around it; empty for a type that is not encrypted."""
        return Response(200, self._shown(req))

    def show_one(self, req: CompanionRequest) -> Response:
        shown, key = self._shown(req), req.params["key"]
        if key not in shown:
            raise NotFound(reason="The resource could not be found.")
        return Response(200, {key: shown[key]})

    def create(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        values = _values(req)

        def work(tx: Connection) -> Record:
            kind = find_type(tx, req.params["id"])
            _demand_unused(tx, kind, "create")
            if encryption_of(tx, kind) is not None:
                raise Invalid(reason=f"Volume type encryption for type {kind['id']} already exists.")
            whole = {name: values.get(name) for name in FIELDS}
            made = store.add(tx, "encryption", "", kind["id"], volume_type_id=kind["id"], **whole)
            return {**whole, "volume_type_id": kind["id"], "encryption_id": made["id"]}

        return Response(200, {"encryption": self._db.run(work)})

    def update(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        values = _values(req)

        def work(tx: Connection) -> None:
            kind = find_type(tx, req.params["id"])
            _demand_unused(tx, kind, "update")
            store.change(tx, _demand(tx, kind), values)

        self._db.run(work)
        return Response(200, {"encryption": values})

    def delete(self, req: CompanionRequest) -> Response:
        req.demand_admin()

        def work(tx: Connection) -> None:
            kind = find_type(tx, req.params["id"])
            _demand_unused(tx, kind, "delete")
            store.remove(tx, _demand(tx, kind)["id"])

        self._db.run(work)
        return Response(202)

    def of_volume(self, req: CompanionRequest) -> Response:
        """How a volume is encrypted, and the id of its key."""
        with self._db.connect() as tx:
            volume = visible(tx, req, "volume", req.params["id"])
        return Response(200, {"encryption_key_id": volume.get("encryption_key_id"), **(volume.get("encryption") or {})})

    def _shown(self, req: CompanionRequest) -> Record:
        req.demand_admin()
        with self._db.connect() as tx:
            found = encryption_of(tx, find_type(tx, req.params["id"]))
        if found is None:
            return {}
        kept = {name: found[name] for name in ("volume_type_id", *FIELDS, "created_at", "updated_at")}
        return {**kept, "encryption_id": found["id"], "deleted": False, "deleted_at": None}


def encryption_of(tx: Connection, kind: Record) -> Record | None:
    return next(iter(store.search(tx, "encryption", parent_id=kind["id"])), None)


def said_of(tx: Connection, kind: Record) -> Record | None:
    """The encryption of a volume of the type, as that says it; None: it has none."""
    found = encryption_of(tx, kind)
    return None if found is None else {name: found[name] for name in FIELDS}


def demand_same(encryption: Record | None, source: Record, kind: Record) -> None:
    """Raises Invalid for a source that is encrypted otherwise than volumes of the type: its bytes are copied as they
    are."""
    if source and (source.get("encryption") or None) != encryption:
        words = "requested type is not compatible; either match source volume, or omit type argument"
        raise Invalid(reason=f"Invalid input received: Invalid volume_type provided: {kind['id']} ({words})")


def _values(req: CompanionRequest) -> Record:
    requested = req.content("encryption")
    values = {name: requested[name] for name in FIELDS if name in requested}
    if isinstance(values.get("key_size"), str):
        values["key_size"] = int(values["key_size"])
    return values


def _demand(tx: Connection, kind: Record) -> Record:
    """Raises NotFound."""
    found = encryption_of(tx, kind)
    if found is None:
        raise NotFound(reason=f"Volume type encryption for type {kind['id']} does not exist.")
    return found


def _demand_unused(tx: Connection, kind: Record, verb: str) -> None:
    if in_use(tx, kind):
        raise Invalid(reason=f"Cannot {verb} encryption specs. Volume type in use.")
