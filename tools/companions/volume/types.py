"""Types of volumes: their names and extra specs."""

from __future__ import annotations

from sqlalchemy import Connection

from cell_service.db.sql.engine import Database
from cell_service.errors import Invalid
from cell_service.http.response import Response
from tools.companions.route import CompanionRequest
from tools.companions.volume import store
from tools.companions.volume.store import Record

DEFAULT_TYPE = "__DEFAULT__"


class Types:
    """The handlers of /types."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def index(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"volume_types": [default_type(), *store.search(tx, "type")]})

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"volume_type": find_type(tx, req.params["id"])})

    def create(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        requested = req.content("volume_type")
        values: Record = {
            "name": requested.get("name"), "description": requested.get("description"),
            "extra_specs": requested.get("extra_specs") or {}, "is_public": True,
            "os-volume-type-access:is_public": True,
        }  # fmt: skip
        return Response(200, {"volume_type": self._db.run(lambda tx: store.add(tx, "type", "", **values))})

    def delete(self, req: CompanionRequest) -> Response:
        """Delete a type that no volume has, with what is said of its encryption."""
        req.demand_admin()

        def work(tx: Connection) -> None:
            kind = store.get(tx, "type", req.params["id"])
            if in_use(tx, kind):
                words = "deletion is not allowed with volumes present with the type."
                raise Invalid(reason=f"Volume Type {kind['id']} {words}")
            for one in (*store.search(tx, "encryption", parent_id=kind["id"]), kind):
                store.remove(tx, one["id"])

        self._db.run(work)
        return Response(202)

    def specs(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"extra_specs": find_type(tx, req.params["id"])["extra_specs"]})

    def set_specs(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        requested = req.content("extra_specs")

        def work(tx: Connection) -> Record:
            kind = store.get(tx, "type", req.params["id"])
            return store.change(tx, kind, {"extra_specs": {**kind["extra_specs"], **requested}})

        return Response(200, {"extra_specs": self._db.run(work)["extra_specs"]})


def default_type() -> Record:
    return {
        "id": "00000000-0000-4000-8000-000000000001", "name": DEFAULT_TYPE, "description": None, "extra_specs": {},
        "is_public": True, "os-volume-type-access:is_public": True,
    }  # fmt: skip


def find_type(tx: Connection, requested: object) -> Record:
    """The type by id or name; None: the default. Raises NotFound."""
    if requested in (None, "", DEFAULT_TYPE, "default", default_type()["id"]):
        return default_type()
    for one in store.search(tx, "type"):
        if requested in (one["id"], one["name"]):
            return one
    raise store.missing("volume type", str(requested))


def is_multiattach(kind: Record) -> bool:
    """Whether volumes of the type may be attached to several servers: its extra spec `multiattach` is "<is> True"."""
    return "True" in str(kind.get("extra_specs", {}).get("multiattach", ""))


def in_use(tx: Connection, kind: Record) -> bool:
    return any(volume["volume_type"] == kind["name"] for volume in store.search(tx, "volume"))
