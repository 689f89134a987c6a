"""Nouns of the Network API, made, listed, changed and deleted alike; what is special of each is in its hooks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from sqlalchemy import Connection

from api_cell.edge.schema import Validator
from cell_service.db.sql.engine import Database
from cell_service.errors import Forbidden, Invalid, NotFound
from cell_service.http.response import Response
from tools.companions.network import lists, quotas, store
from tools.companions.network.errors import bad, not_found, refusal
from tools.companions.network.nouns import KINDS, REQUIRED, Noun, Record
from tools.companions.route import CompanionRequest, CompanionRoute


class Records:
    """The handlers of one noun."""

    def __init__(self, noun: Noun, db: Database) -> None:
        self.noun, self._db = noun, db

    def routes(self) -> tuple[CompanionRoute, ...]:
        many = f"/v2.0/{self.noun.segment}"
        one = f"{many}/{{id}}"
        return (
            CompanionRoute("GET", many, self.index),
            CompanionRoute("POST", many, self.create),
            CompanionRoute("GET", one, self.show),
            CompanionRoute("PUT", one, self.change),
            CompanionRoute("DELETE", one, self.delete),
            CompanionRoute("GET", f"{one}/tags", self.tags),
            CompanionRoute("PUT", f"{one}/tags", self.put_tags),
            CompanionRoute("DELETE", f"{one}/tags", self.clear_tags),
            CompanionRoute("GET", f"{one}/tags/{{tag}}", self.tag),
            CompanionRoute("PUT", f"{one}/tags/{{tag}}", self.add_tag),
            CompanionRoute("DELETE", f"{one}/tags/{{tag}}", self.remove_tag),
        )

    def index(self, req: CompanionRequest) -> Response:
        noun = self.noun
        listing = noun.listing
        if listing is not None:
            self._db.run(lambda tx: listing(tx, req))
        with self._db.connect() as tx:
            found = store.search(tx, noun.name, **lists.narrowed(req), **noun.narrowed(tx, req))
            noun.complete(tx, found)
        found = [record for record in found if req.is_admin or noun.visible(req, record)]
        shown = [self.shown(req, record) for record in found]
        shown = [record for record in shown if lists.fits(record, req.query)]
        page, links = lists.page(req, lists.in_order(req, shown))
        names = req.query.get("fields", [])
        body: Record = {noun.plural: [fields_shown(record, names) for record in page]}
        if links:
            body[f"{noun.plural}_links"] = links
        return Response(200, body)

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            record = self.visible(tx, req, req.params["id"])
        shown = fields_shown(self.shown(req, record), req.query.get("fields", []))
        return Response(200, {self.noun.singular: shown})

    def create(self, req: CompanionRequest) -> Response:
        """Make one record, or all of a list in one transaction."""
        noun = self.noun
        many = isinstance(req.body, dict) and isinstance(req.body.get(noun.plural), list)
        requested = req.body[noun.plural] if many else [req.content(noun.singular)]

        def work(tx: Connection) -> list[Record]:
            made = [self.make(tx, req, given) for given in requested]
            noun.complete(tx, made)
            return made

        written = self._db.run(work)
        noun.written(written)
        for record in written:
            noun.changed({}, record)
        shown = [self.shown(req, record) for record in written]
        return Response(201, {noun.plural: shown} if many else {noun.singular: shown[0]})

    def make(self, tx: Connection, req: CompanionRequest, given: object) -> Record:
        """A new record, stored. Raises Invalid, Forbidden, Conflict, NotFound."""
        noun = self.noun
        if not isinstance(given, dict):
            raise bad(f"A {noun.singular} must be an object.")
        project_id = given.get("project_id") or given.get("tenant_id") or req.caller.project_id
        if not isinstance(project_id, str):
            raise bad("Invalid input for project_id. Reason: it is no string.", "HTTPBadRequest")
        if project_id != req.caller.project_id:
            req.demand_admin()
        values = _named({key: value for key, value in given.items() if key not in ("tenant_id", "project_id")})
        self._check(req, values, {}, creating=True)
        record: Record = {"id": store.new_id(), "project_id": project_id, "tags": []}
        for name, attr in noun.attrs.items():
            if attr.default is REQUIRED and name not in values:
                raise bad(f"Failed to parse request. Required attribute '{name}' not specified.", "HTTPBadRequest")
            default = attr.default.copy() if isinstance(attr.default, (list, dict)) else attr.default
            record[name] = values.get(name, default)
        quotas.demand(tx, project_id, noun.name)
        noun.making(tx, req, record)
        store.add(tx, noun.name, record)
        noun.made(tx, req, record)
        return self._get(tx, record["id"])

    def change(self, req: CompanionRequest) -> Response:
        noun = self.noun
        given = req.content(noun.singular)

        def work(tx: Connection) -> tuple[Record, Record]:
            old = self.own(tx, req, req.params["id"])
            was = dict(old)
            _match_revision(req, old)
            values = _named(
                {key: value for key, value in given.items() if old.get(key) != value and key != "tenant_id"}
            )
            self._check(req, values, old, creating=False)
            noun.changing(tx, req, old, values)
            bare = self._get(tx, old["id"])
            store.change(tx, bare, {key: value for key, value in values.items() if key in (*noun.attrs, *_INNER)})
            new = self._get(tx, old["id"])
            noun.complete(tx, [new])
            return was, new

        was, record = self._db.run(work)
        noun.written([record])
        noun.changed(was, record)
        return Response(200, {noun.singular: self.shown(req, record)})

    def delete(self, req: CompanionRequest) -> Response:
        def work(tx: Connection) -> Record:
            record = self.own(tx, req, req.params["id"])
            _match_revision(req, record)
            was = dict(record)
            self.noun.removing(tx, req, record)
            store.remove(tx, record["id"])
            return was

        was = self._db.run(work)
        self.noun.written([])
        self.noun.changed(was, {})
        return Response(204)

    def tags(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"tags": self.visible(tx, req, req.params["id"])["tags"]})

    def tag(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            if req.params["tag"] not in self.visible(tx, req, req.params["id"])["tags"]:
                raise refusal(NotFound, "TagNotFound", f"Tag {req.params['tag']} could not be found.")
        return Response(204)

    def put_tags(self, req: CompanionRequest) -> Response:
        requested = req.body.get("tags") if isinstance(req.body, dict) else None
        if not isinstance(requested, list) or not all(
            isinstance(tag, str) and 0 < len(tag) <= 255 for tag in requested
        ):
            raise bad("tags must be a list of strings.")
        return Response(200, {"tags": self._retag(req, lambda tags: set(requested))})

    def clear_tags(self, req: CompanionRequest) -> Response:
        self._retag(req, lambda tags: set())
        return Response(204)

    def add_tag(self, req: CompanionRequest) -> Response:
        self._retag(req, lambda tags: tags | {req.params["tag"]})
        return Response(201)

    def remove_tag(self, req: CompanionRequest) -> Response:
        self.tag(req)
        self._retag(req, lambda tags: tags - {req.params["tag"]})
        return Response(204)

    def _retag(self, req: CompanionRequest, change: Callable[[set[str]], set[str]]) -> list[str]:
        def work(tx: Connection) -> list[str]:
            record = self.own(tx, req, req.params["id"])
            tags = sorted(change(set(record["tags"])))
            store.change(tx, self._get(tx, record["id"]), {"tags": tags})
            return tags

        return self._db.run(work)

    def visible(self, tx: Connection, req: CompanionRequest, record_id: str) -> Record:
        """The completed record. Raises NotFound, also for what the caller may not see."""
        record = self._get(tx, record_id)
        self.noun.complete(tx, [record])
        if not req.is_admin and not self.noun.visible(req, record):
            raise not_found(self.noun.name, record_id)
        return record

    def own(self, tx: Connection, req: CompanionRequest, record_id: str) -> Record:
        """Raises NotFound, and Forbidden for what the caller may only see."""
        record = self.visible(tx, req, record_id)
        if record["project_id"] != req.caller.project_id and not req.is_admin:
            raise refusal(Forbidden, "PolicyNotAuthorized", "This is disallowed by policy.")
        return record

    def _get(self, tx: Connection, record_id: str) -> Record:
        found = store.find(tx, self.noun.name, record_id)
        if found is None:
            raise not_found(self.noun.name, record_id)
        return found

    def _check(self, req: CompanionRequest, values: Record, old: Record, *, creating: bool) -> None:
        """Raises Invalid, Forbidden unless the caller may give the attributes these values."""
        for name, value in values.items():
            attr = self.noun.attrs.get(name)
            if attr is None:
                raise bad(f"Unrecognized attribute(s) '{name}'", "HTTPBadRequest")
            if attr.computed or (attr.fixed and not creating):
                raise bad(f"Cannot update read-only attribute {name}", "HTTPBadRequest")
            if attr.admin and value != attr.default and not req.is_admin:
                message = f"The attribute {name} is disallowed by policy."
                raise refusal(Forbidden, "PolicyNotAuthorized", message)
            try:
                Validator.of(KINDS[attr.kind]).check(value)
            except Invalid as error:
                raise bad(f"Invalid input for {name}. Reason: {error}.", "HTTPBadRequest") from None

    def shown(self, req: CompanionRequest, record: Record) -> Record:
        """The fields of the record that the caller may see."""
        whole = req.is_admin or SERVICE in req.caller.roles
        hidden = () if whole else [name for name, attr in self.noun.attrs.items() if attr.hidden]
        shown = {name: value for name, value in record.items() if name not in hidden and name not in _INNER}
        if self.noun.name != "port":
            shown.pop("device_id", None)
        if "network_id" not in self.noun.attrs:
            shown.pop("network_id", None)
        if "name" not in self.noun.attrs:
            shown.pop("name", None)
        return shown | {"tenant_id": record["project_id"]}


_INNER = ("parent_id",)
SERVICE = "service"
"""The role of other services: they see what administrators see of a record."""
_REVISION = re.compile(r"revision_number=(\d{1,18})\b")


def _named(values: Record) -> Record:
    """The values with an empty name in place of none."""
    return values | {"name": ""} if values.get("name", "") is None else values


def _match_revision(req: CompanionRequest, record: Record) -> None:
    """Raises Invalid (412) when the caller meant another revision."""
    found = _REVISION.search(req.headers.get("If-Match", ""))
    if found and int(found[1]) != record["revision_number"]:
        message = f"Constrained to {found[1]}, but current revision is {record['revision_number']}"
        raise Invalid(reason=message, kind="RevisionNumberConstraintFailed", status=412)


def fields_shown(record: Record, names: Iterable[str]) -> Record:
    """The record with these fields only; all when none is named."""
    chosen = set(names)
    return {key: value for key, value in record.items() if key in chosen} if chosen else record
