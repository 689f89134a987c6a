"""The image companion (Image API v2): records, contents, members, tags."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from sqlalchemy import Connection, delete, insert
from sqlalchemy.exc import IntegrityError

from api_cell.edge.auth import Authenticator
from cell_service.db.sql.engine import Database
from cell_service.errors import Conflict, Forbidden, Invalid, NotFound
from cell_service.http.response import Response
from tools.companions.app import Companion, CompanionApi
from tools.companions.image import store, views
from tools.companions.image.metadefs import Metadefs
from tools.companions.image.patch import patched
from tools.companions.image.schemas import METADEF_SCHEMAS, SCHEMAS
from tools.companions.route import CompanionRequest, CompanionRoute
from tools.companions.store import open_store

Record = dict[str, Any]
_NO_IMPORT = "This service has no import methods; upload to the image's file."


def make_image(state_dir: Path, authenticator: Authenticator) -> Companion:
    """The service on the data of that directory; contents are files in `images` below it."""
    db = open_store(state_dir, "image", store.metadata)
    contents = state_dir / "images"
    contents.mkdir(exist_ok=True)
    for left in contents.glob("upload-*"):
        left.unlink(missing_ok=True)
    with db.begin() as tx:  # uploads that were under way when the service ended
        tx.execute(store.images.update().where(store.images.c.status == "saving").values(status="queued"))
    service = CompanionApi(
        "image",
        (*_Images(db, contents).routes(), *Metadefs(db).routes()),
        _error,
        authenticator,
        upload_directory=contents,
        close=db.dispose,
    )
    return Companion(service)


class _Images:
    def __init__(self, db: Database, contents: Path) -> None:
        self._db, self._contents = db, contents

    def routes(self) -> tuple[CompanionRoute, ...]:
        one = "/v2/images/{id}"
        return (
            CompanionRoute("GET", "/", self.choices, open=True),
            CompanionRoute("GET", "/versions", self.choices, open=True),
            CompanionRoute("GET", "/v2/schemas/{name}", self.schema),
            CompanionRoute("GET", "/v2/schemas/metadefs/{name}", self.metadef_schema),
            CompanionRoute("GET", "/v2/info/import", self.no_methods),
            CompanionRoute("GET", "/v2/info/stores", self.stores),
            CompanionRoute("GET", "/v2/images", self.index),
            CompanionRoute("POST", "/v2/images", self.create),
            CompanionRoute("GET", one, self.show),
            CompanionRoute("PATCH", one, self.change),
            CompanionRoute("DELETE", one, self.delete),
            CompanionRoute("PUT", f"{one}/file", self.upload, takes_file=True),
            CompanionRoute("GET", f"{one}/file", self.download),
            CompanionRoute("PUT", f"{one}/stage", self.no_import, takes_file=True),
            CompanionRoute("POST", f"{one}/import", self.no_import),
            CompanionRoute("POST", f"{one}/actions/deactivate", self.deactivate),
            CompanionRoute("POST", f"{one}/actions/reactivate", self.reactivate),
            CompanionRoute("PUT", f"{one}/tags/{{tag}}", self.add_tag),
            CompanionRoute("DELETE", f"{one}/tags/{{tag}}", self.remove_tag),
            CompanionRoute("GET", f"{one}/tasks", self.tasks),
            CompanionRoute("GET", "/v2/tasks", self.all_tasks),
            CompanionRoute("GET", "/v2/tasks/{task}", self.task),
            CompanionRoute("GET", f"{one}/locations", self.locations),
            CompanionRoute("POST", f"{one}/locations", self.no_locations),
            CompanionRoute("GET", f"{one}/members", self.members),
            CompanionRoute("POST", f"{one}/members", self.add_member),
            CompanionRoute("GET", f"{one}/members/{{member}}", self.member),
            CompanionRoute("PUT", f"{one}/members/{{member}}", self.change_member),
            CompanionRoute("DELETE", f"{one}/members/{{member}}", self.remove_member),
        )

    def choices(self, req: CompanionRequest) -> Response:
        versions = [
            {"id": f"v2.{minor}", "status": "CURRENT" if minor == 17 else "SUPPORTED",
             "links": [{"rel": "self", "href": f"{req.origin}/v2/"}]}
            for minor in (17, 9, 7, 6, 5, 4, 3, 2, 1, 0)
        ]  # fmt: skip
        return Response(300 if req.path == "/" else 200, {"versions": versions})

    def schema(self, req: CompanionRequest) -> Response:
        if req.params["name"] not in SCHEMAS:
            raise NotFound(reason="There is no such schema.")
        return Response(200, SCHEMAS[req.params["name"]])

    def metadef_schema(self, req: CompanionRequest) -> Response:
        if req.params["name"] not in METADEF_SCHEMAS:
            raise NotFound(reason="There is no such schema.")
        return Response(200, METADEF_SCHEMAS[req.params["name"]])

    def tasks(self, req: CompanionRequest) -> Response:
        """None: images are uploaded, and not imported."""
        with self._db.connect() as tx:
            self._visible(tx, req)
        return Response(200, {"tasks": []})

    def all_tasks(self, req: CompanionRequest) -> Response:
        """The list of tasks, which is empty. For administrators, by the published default rules."""
        req.demand_admin()
        return Response(200, {"tasks": [], "first": "/v2/tasks", "schema": "/v2/schemas/tasks"})

    def task(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        raise NotFound(reason=f"Task {req.params['task']} could not be found.")

    def locations(self, req: CompanionRequest) -> Response:
        """The locations of the content, for services only."""
        with self._db.connect() as tx:
            record = self._visible(tx, req)
        if not {"service", "admin"} & {*req.caller.roles, *req.caller.service_roles}:
            raise Forbidden(reason="You are not authorized to complete get_image_location action.")
        path = self._contents / record["id"]
        found = [{"url": path.resolve().as_uri(), "metadata": {"store": "file"}}] if path.exists() else []
        return Response(200, found)

    def no_locations(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            self._own(tx, req)
        raise Invalid(reason="Invalid location: this service keeps contents itself; upload to the image's file.")

    def no_methods(self, req: CompanionRequest) -> Response:
        methods = {"description": "Import methods available.", "type": "array", "value": []}
        return Response(200, {"import-methods": methods})

    def stores(self, req: CompanionRequest) -> Response:
        raise NotFound(reason="There is only one store.")

    def no_import(self, req: CompanionRequest) -> Response:
        raise Invalid(reason=_NO_IMPORT)

    def index(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            records = store.all_images(tx)
            shared = store.memberships(tx, req.caller.project_id)
        found, marker = views.page(req, views.ordered(req, views.chosen(req, records, shared)))
        rest = {name: values for name, values in req.query.items() if name != "marker"}
        query = urlencode(rest, doseq=True)
        body: Record = {
            "images": [views.view(record) for record in found],
            "first": "/v2/images" + (f"?{query}" if query else ""),
            "schema": "/v2/schemas/images",
        }
        if marker:
            body["next"] = "/v2/images?" + urlencode({**rest, "marker": marker}, doseq=True)
        return Response(200, body)

    def create(self, req: CompanionRequest) -> Response:
        record = views.new_record(req)

        def work(tx: Connection) -> Record:
            store.add(tx, record)
            return self._find(tx, record["id"])

        try:
            made = self._db.run(work)
        except IntegrityError as error:
            raise Conflict(reason=f"Image ID {record['id']} already exists!") from error
        return Response(201, views.view(made), {"Location": f"{req.origin}/v2/images/{record['id']}"})

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, views.view(self._visible(tx, req)))

    def change(self, req: CompanionRequest) -> Response:
        content_type = req.headers.get("Content-Type", "").partition(";")[0].strip()
        if not content_type.startswith("application/openstack-images-v2"):
            raise Invalid(reason=f"Unsupported Content-Type {content_type}.", status=415)

        def work(tx: Connection) -> Record:
            record = self._own(tx, req)
            values = patched(record, req)
            store.change(tx, record["id"], **values)
            return self._find(tx, record["id"])

        return Response(200, views.view(self._db.run(work)))

    def delete(self, req: CompanionRequest) -> Response:
        def work(tx: Connection) -> str:
            record = self._own(tx, req)
            if record["protected"]:
                raise Forbidden(reason=f"Image {record['id']} is protected and cannot be deleted.")
            tx.execute(delete(store.members).where(store.members.c.image_id == record["id"]))
            tx.execute(delete(store.images).where(store.images.c.id == record["id"]))
            return str(record["id"])

        (self._contents / self._db.run(work)).unlink(missing_ok=True)
        return Response(204)

    def upload(self, req: CompanionRequest) -> Response:
        """queued → saving → active. The file has its place before the record says that it is there."""
        assert req.upload is not None

        def begin(tx: Connection) -> Record:
            record = self._own(tx, req)
            if record["disk_format"] is None or record["container_format"] is None:
                raise Invalid(reason="Properties disk_format, container_format must be set prior to saving data.")
            if not _set_status(tx, record["id"], "queued", "saving"):
                raise Conflict(reason=f"Image status transition from {record['status']} to saving is not allowed")
            return record

        record = self._db.run(begin)
        target = self._contents / record["id"]
        try:
            measured = store.measured(req.upload)
            os.replace(req.upload, target)
        except OSError:
            self._db.run(lambda tx: _set_status(tx, record["id"], "saving", "queued"))
            raise
        if not self._db.run(lambda tx: _set_status(tx, record["id"], "saving", "active", **measured)):
            target.unlink(missing_ok=True)
            raise NotFound(reason=f"Image {record['id']} was deleted during the upload.", status=410)
        return Response(204)

    def download(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            record = self._visible(tx, req)
        if record["status"] == "queued":
            return Response(204)
        if record["status"] == "deactivated" and not req.is_admin:
            raise Forbidden(reason="The requested image has been deactivated. Image data download is forbidden.")
        path = self._contents / record["id"]
        if not path.exists():
            raise NotFound(reason=f"Image {record['id']} has no data.")
        headers = {"Content-Type": "application/octet-stream", "Content-MD5": record["checksum"]}
        return Response(200, None, headers, file=path)

    def deactivate(self, req: CompanionRequest) -> Response:
        return self._switch(req, "active", "deactivated")

    def reactivate(self, req: CompanionRequest) -> Response:
        return self._switch(req, "deactivated", "active")

    def _switch(self, req: CompanionRequest, before: str, after: str) -> Response:
        req.demand_admin()

        def work(tx: Connection) -> None:
            record = self._visible(tx, req)
            if record["status"] != after and not _set_status(tx, record["id"], before, after):
                raise Forbidden(reason=f"Image status transition from {record['status']} to {after} is not allowed")

        self._db.run(work)
        return Response(204)

    def add_tag(self, req: CompanionRequest) -> Response:
        return self._tags(req, lambda tags: tags | {req.params["tag"]})

    def remove_tag(self, req: CompanionRequest) -> Response:
        return self._tags(req, lambda tags: tags - {req.params["tag"]}, must_have=True)

    def _tags(self, req: CompanionRequest, change: Callable[[set[str]], set[str]], must_have: bool = False) -> Response:
        def work(tx: Connection) -> None:
            record = self._own(tx, req)
            tags = set(record["doc"].get("tags", ()))
            if must_have and req.params["tag"] not in tags:
                raise NotFound(reason="The tag could not be found.")
            store.change(tx, record["id"], doc=record["doc"] | {"tags": sorted(change(tags))})

        self._db.run(work)
        return Response(204)

    def members(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            record = self._visible(tx, req)
            found = store.members_of(tx, record["id"])
        if record["owner"] != req.caller.project_id and not req.is_admin:
            found = [member for member in found if member["member_id"] == req.caller.project_id]
        return Response(200, {"members": [views.member_view(m) for m in found], "schema": "/v2/schemas/members"})

    def add_member(self, req: CompanionRequest) -> Response:
        member_id = req.body.get("member") if isinstance(req.body, dict) else None
        if not isinstance(member_id, str) or not member_id:
            raise Invalid(reason="Expected a 'member'.")

        def work(tx: Connection) -> Record:
            record = self._own(tx, req)
            if record["visibility"] != "shared":
                raise Forbidden(reason="Only shared images have members.")
            moment = store.now()
            row = {"image_id": record["id"], "member_id": member_id, "status": "pending"}
            tx.execute(insert(store.members).values(**row, created_at=moment, updated_at=moment))
            return self._member(tx, record["id"], member_id)

        try:
            return Response(200, views.member_view(self._db.run(work)))
        except IntegrityError as error:
            raise Conflict(reason=f"Project {member_id} is a member already.") from error

    def member(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            record = self._visible(tx, req)
            if record["owner"] != req.caller.project_id and req.params["member"] != req.caller.project_id:
                req.demand_admin()
            return Response(200, views.member_view(self._member(tx, record["id"], req.params["member"])))

    def change_member(self, req: CompanionRequest) -> Response:
        """Accept or reject the membership, which only the member itself may do."""
        status = req.body.get("status") if isinstance(req.body, dict) else None
        if status not in ("pending", "accepted", "rejected"):
            raise Invalid(reason="The status must be pending, accepted or rejected.")
        if req.params["member"] != req.caller.project_id:
            req.demand_admin()

        def work(tx: Connection) -> Record:
            record = self._visible(tx, req)
            self._member(tx, record["id"], req.params["member"])
            key = (store.members.c.image_id == record["id"], store.members.c.member_id == req.params["member"])
            tx.execute(store.members.update().where(*key).values(status=status, updated_at=store.now()))
            return self._member(tx, record["id"], req.params["member"])

        return Response(200, views.member_view(self._db.run(work)))

    def remove_member(self, req: CompanionRequest) -> Response:
        def work(tx: Connection) -> None:
            record = self._own(tx, req)
            self._member(tx, record["id"], req.params["member"])
            key = (store.members.c.image_id == record["id"], store.members.c.member_id == req.params["member"])
            tx.execute(delete(store.members).where(*key))

        self._db.run(work)
        return Response(204)

    def _find(self, tx: Connection, image_id: str) -> Record:
        found = store.find(tx, image_id)
        if found is None:
            raise NotFound(reason=f"No image found with ID {image_id}")
        return found

    def _visible(self, tx: Connection, req: CompanionRequest) -> Record:
        record = self._find(tx, req.params["id"])
        if req.is_admin or record["owner"] == req.caller.project_id or record["visibility"] in ("public", "community"):
            return record
        if record["visibility"] == "shared" and record["id"] in store.memberships(tx, req.caller.project_id):
            return record
        raise NotFound(reason=f"No image found with ID {record['id']}")

    def _own(self, tx: Connection, req: CompanionRequest) -> Record:
        record = self._visible(tx, req)
        if not req.is_admin and record["owner"] != req.caller.project_id:
            raise Forbidden(reason="You are not permitted to change this image.")
        return record

    def _member(self, tx: Connection, image_id: str, member_id: str) -> Record:
        for member in store.members_of(tx, image_id):
            if member["member_id"] == member_id:
                return member
        raise NotFound(reason=f"{member_id} is not a member of image {image_id}.")


def _set_status(tx: Connection, image_id: str, before: str, after: str, **values: object) -> bool:
    key = (store.images.c.id == image_id, store.images.c.status == before)
    changed = store.images.update().where(*key).values(status=after, updated_at=store.now(), **values)
    return tx.execute(changed).rowcount > 0


def _error(status: int, kind: str, message: str) -> Any:
    with contextlib.suppress(ValueError):
        return {"message": message, "code": f"{status} {HTTPStatus(status).phrase}", "title": HTTPStatus(status).phrase}
    return {"message": message, "code": str(status), "title": kind}
