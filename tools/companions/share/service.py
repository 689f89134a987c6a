"""The shared file system companion (Shared File Systems API v2 in small): shares as records, and their access rules.

There are no file systems behind it: a share has an export location, and is what its record says.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from api_cell.edge.auth import Authenticator
from api_cell.edge.route import Schema
from cell_service.db.sql.engine import Database
from cell_service.errors import Forbidden, Invalid, NotAcceptable
from cell_service.http.response import Response
from tools.companions.app import Companion, CompanionApi
from tools.companions.route import CompanionRequest, CompanionRoute, Handler
from tools.companions.share import schemas
from tools.companions.share.rules import Rules
from tools.companions.store import open_store
from tools.companions.volume import store
from tools.companions.volume.store import Record

MIN_VERSION, MAX_VERSION = "2.0", "2.98"
HEADERS = ("OpenStack-API-Version", "X-OpenStack-Manila-API-Version")
PROTOCOLS = ("NFS", "CIFS", "CEPHFS", "GLUSTERFS", "HDFS", "MAPRFS")
TRUE_WORDS = (True, "True", "true", "1", 1)


def make_share(state_dir: Path, authenticator: Authenticator, looks: int = 2) -> Companion:
    """The service on the data of that directory. `looks`: how often an access rule is polled before it is active."""
    db = open_store(state_dir, "share", store.metadata)
    shares, rules = _Shares(db), Rules(db, visible, owned, looks)
    table: tuple[tuple[str, str, Handler] | tuple[str, str, Handler, Schema], ...] = (
        ("GET", "/shares", shares.index),
        ("POST", "/shares", shares.create, schemas.CREATE),
        ("GET", "/shares/detail", shares.detail),
        ("GET", "/shares/{id}", shares.show),
        ("PUT", "/shares/{id}", shares.update, schemas.UPDATE),
        ("DELETE", "/shares/{id}", shares.delete),
        ("POST", "/shares/{id}/action", lambda req: _action(shares, rules, req), schemas.ACTION),
        ("GET", "/shares/{id}/metadata", shares.metadata),
        ("POST", "/shares/{id}/metadata", shares.set_metadata, schemas.PUT_METADATA),
        ("PUT", "/shares/{id}/metadata", shares.set_metadata, schemas.PUT_METADATA),
        ("GET", "/shares/{id}/export_locations", shares.locations),
        ("GET", "/shares/{id}/export_locations/{location}", shares.location),
        ("GET", "/share-access-rules", rules.index),
        ("GET", "/share-access-rules/{id}", rules.show),
        ("GET", "/types", lambda req: Response(200, {"share_types": [_TYPE]})),
        ("GET", "/types/default", lambda req: Response(200, {"share_type": _TYPE})),
        ("GET", "/availability-zones", lambda req: Response(200, {"availability_zones": []})),
        ("GET", "/share-networks/detail", lambda req: Response(200, {"share_networks": []})),
        ("GET", "/services", lambda req: Response(200, {"services": []})),
        ("GET", "/limits", lambda req: Response(200, {"limits": {"rate": [], "absolute": {}}})),
    )
    routes = [CompanionRoute("GET", path, _versions, open=True) for path in ("/", "/v2")]
    for prefix in ("/v2", "/v2/{project_id}"):
        routes += [
            CompanionRoute(method, prefix + path, _versioned(handler), body=next(iter(body), None))
            for method, path, handler, *body in table
        ]
    return Companion(CompanionApi("share", tuple(routes), _error, authenticator, close=db.dispose))


_TYPE = {
    "id": "00000000-0000-4000-8000-000000000002", "name": "default", "description": None, "is_default": True,
    "extra_specs": {"driver_handles_share_servers": "False"}, "required_extra_specs": {},
    "share_type_access:is_public": True, "os-share-type-access:is_public": True,
}  # fmt: skip


def _versions(req: CompanionRequest) -> Response:
    version = {
        "id": "v2.0", "status": "CURRENT", "version": MAX_VERSION, "min_version": MIN_VERSION,
        "updated": "2026-01-01T00:00:00Z", "links": [{"rel": "self", "href": f"{req.origin}/v2/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.share+json;version=1"}],
    }  # fmt: skip
    return Response(300 if req.path == "/" else 200, {"versions": [version]})


def _versioned(handler: Handler) -> Handler:
    """The handler for all versions of the API, which do not differ. It raises NotAcceptable for a version that there is
    not."""

    def at_version(req: CompanionRequest) -> Response:
        requested = next((req.headers[name] for name in HEADERS if req.headers.get(name)), MIN_VERSION).split()[-1]
        if requested != "latest" and not _key(MIN_VERSION) <= _key(requested) <= _key(MAX_VERSION):
            raise NotAcceptable(reason=f"Version {requested} is not supported by the API.")
        return handler(req)

    return at_version


def _key(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    if not (major.isdecimal() and minor.isdecimal() and len(version) < 10):
        raise Invalid(reason=f"API Version String {version[:50]} is of invalid format.")
    return int(major), int(minor)


def _error(status: int, kind: str, message: str) -> dict[str, Any]:
    names = {400: "badRequest", 403: "forbidden", 404: "itemNotFound", 409: "conflictingRequest"}
    return {names.get(status, "computeFault"): {"code": status, "message": message}}


def visible(tx: Connection, req: CompanionRequest, share_id: str) -> Record:
    """The share, if the caller may know of it. Raises NotFound."""
    found = store.find(tx, "share", share_id)
    if found is None or not (req.is_admin or found["is_public"] or found["project_id"] == req.caller.project_id):
        raise store.missing("share", share_id)
    return found


def owned(tx: Connection, req: CompanionRequest, share_id: str) -> Record:
    """The share, if the caller may change it. Raises NotFound, Forbidden."""
    found = visible(tx, req, share_id)
    if not (req.is_admin or found["project_id"] == req.caller.project_id):
        raise Forbidden(reason="Policy doesn't allow this to be performed.")
    return found


class _Shares:
    def __init__(self, db: Database) -> None:
        self._db = db

    def index(self, req: CompanionRequest) -> Response:
        keys = ("id", "name", "links")
        return Response(200, {"shares": [{key: one[key] for key in keys} for one in self._listed(req)]})

    def detail(self, req: CompanionRequest) -> Response:
        return Response(200, {"shares": self._listed(req)})

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"share": _shown(req, visible(tx, req, req.params["id"]))})

    def create(self, req: CompanionRequest) -> Response:
        requested = req.content("share")
        proto, size = str(requested.get("share_proto", "")).upper(), requested.get("size")
        if proto not in PROTOCOLS:
            raise Invalid(reason=f"Invalid share protocol provided: {proto[:50]}.")
        if isinstance(size, bool) or not str(size).isdecimal() or int(str(size)[:9]) < 1:
            raise Invalid(reason="Invalid input received: Share size must be an integer and greater than 0.")
        values: Record = {
            "name": requested.get("name") or requested.get("display_name"),
            "description": requested.get("description") or requested.get("display_description"),
            "size": int(str(size)[:9]), "share_proto": proto, "status": "available",
            "is_public": requested.get("is_public") in TRUE_WORDS, "metadata": requested.get("metadata") or {},
            "availability_zone": requested.get("availability_zone") or "nova", "user_id": req.caller.user_id,
        }  # fmt: skip
        made = self._db.run(lambda tx: store.add(tx, "share", req.caller.project_id, **values))
        return Response(200, {"share": _shown(req, made)})

    def update(self, req: CompanionRequest) -> Response:
        requested = req.content("share")
        wanted: Record = {}
        for name, key in (("display_name", "name"), ("display_description", "description"), ("name", "name"),
                          ("description", "description")):  # fmt: skip
            if name in requested:
                wanted[key] = requested[name]
        if "is_public" in requested:
            wanted["is_public"] = requested["is_public"] in TRUE_WORDS
        made = self._db.run(lambda tx: store.change(tx, owned(tx, req, req.params["id"]), wanted))
        return Response(200, {"share": _shown(req, made)})

    def delete(self, req: CompanionRequest) -> Response:
        """Delete the share, unless a locked rule of it exists."""
        self._db.run(lambda tx: _remove(tx, owned(tx, req, req.params["id"])["id"], force=False))
        return Response(202)

    def metadata(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"metadata": visible(tx, req, req.params["id"])["metadata"]})

    def set_metadata(self, req: CompanionRequest) -> Response:
        requested = req.content("metadata")

        def work(tx: Connection) -> Record:
            share = owned(tx, req, req.params["id"])
            kept = share["metadata"] if req.method == "POST" else {}
            return store.change(tx, share, {"metadata": {**kept, **requested}})

        return Response(200, {"metadata": self._db.run(work)["metadata"]})

    def locations(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"export_locations": [_location(visible(tx, req, req.params["id"]))]})

    def location(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            found = _location(visible(tx, req, req.params["id"]))
        if found["id"] != req.params["location"]:
            raise store.missing("export location", req.params["location"])
        return Response(200, {"export_location": found})

    def act(self, req: CompanionRequest, name: str, requested: Record) -> Response:
        """Do an action on the share itself."""

        def work(tx: Connection) -> None:
            share = owned(tx, req, req.params["id"])
            if name in ("extend", "shrink"):
                size = requested.get("new_size")
                if not isinstance(size, int) or (size > share["size"]) is not (name == "extend") or size < 1:
                    raise Invalid(reason=f"New size must be {'greater' if name == 'extend' else 'smaller'}.")
                store.change(tx, share, {"size": size})
                return
            req.demand_admin()
            if name == "force_delete":
                _remove(tx, share["id"], force=True)
            else:
                store.change(tx, share, {"status": requested.get("status", share["status"])})

        self._db.run(work)
        return Response(202)

    def _listed(self, req: CompanionRequest) -> list[Record]:
        everybody = req.is_admin and req.one("all_tenants", "0") in ("1", "True", "true")
        with self._db.connect() as tx:
            found = store.search(tx, "share", project_id=None if everybody else req.caller.project_id)
        shown = [_shown(req, one) for one in found]
        for name in ("name", "status", "share_proto"):
            if (wanted := req.one(name)) is not None:
                shown = [one for one in shown if str(one[name]) == wanted]
        offset, limit = (value if (value := req.one(name)) and value.isdecimal() and len(value) < 19 else None
                         for name in ("offset", "limit"))  # fmt: skip
        shown = shown[int(offset or 0) :]
        return shown[: int(limit)] if limit else shown


def _action(shares: _Shares, rules: Rules, req: CompanionRequest) -> Response:
    body = req.body if isinstance(req.body, dict) else {}
    key = next(iter(body), "")
    name, requested = key.removeprefix("os-"), body.get(key)
    requested = requested if isinstance(requested, dict) else {}
    if name in ("allow_access", "deny_access", "access_list"):
        return {"allow_access": rules.allow, "deny_access": rules.deny, "access_list": rules.listed}[name](
            req, requested
        )
    if name in ("extend", "shrink", "force_delete", "reset_status"):
        return shares.act(req, name, requested)
    raise Invalid(reason="There is no such action of shares.")


def _remove(tx: Connection, share_id: str, *, force: bool) -> None:
    rules = store.search(tx, "access", parent_id=share_id)
    if any(one["lock_deletion"] for one in rules) and not force:
        raise Forbidden(reason=f"Share {share_id} has access rules that are locked against deletion.")
    for one in rules:
        store.remove(tx, one["id"])
    store.remove(tx, share_id)


def _location(share: Record) -> Record:
    return {
        "id": share["id"], "path": f"127.0.0.1:/shares/share_{share['id'].replace('-', '_')}", "preferred": True,
        "is_admin_only": False, "share_instance_id": share["id"], "created_at": share["created_at"],
        "updated_at": share["updated_at"], "metadata": {},
    }  # fmt: skip


def _shown(req: CompanionRequest, share: Record) -> Record:
    keys = ("id", "name", "description", "size", "share_proto", "status", "is_public", "metadata", "availability_zone",
            "project_id", "user_id", "created_at")  # fmt: skip
    return {
        **{key: share[key] for key in keys},
        "host": "simulated@shares#pool", "share_type": _TYPE["id"], "share_type_name": _TYPE["name"],
        "share_network_id": None, "share_server_id": None, "snapshot_id": None, "has_replicas": False,
        "replication_type": None, "task_state": None, "access_rules_status": "active", "volume_type": "default",
        "snapshot_support": False, "mount_snapshot_support": False, "create_share_from_snapshot_support": False,
        "revert_to_snapshot_support": False, "share_group_id": None, "source_share_group_snapshot_member_id": None,
        "is_soft_deleted": False, "scheduled_to_be_deleted_at": None,
        "links": [{"rel": "self", "href": f"{req.origin}/v2/shares/{share['id']}"}],
    }  # fmt: skip
