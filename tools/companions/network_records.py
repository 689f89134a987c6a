"""Nouns of the Network API, made, listed, changed and deleted alike; what is special of each is in its hooks.

Writers queue up in the database (BEGIN IMMEDIATE), so a check holds until what it allowed is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from cell_service.db.engine import Database
from cell_service.errors import Forbidden, Invalid, NotFound
from tools.companions import network_quotas as quotas
from tools.companions import network_store as store
from tools.companions.app import Request, Response, Route, fields_shown
from tools.companions.network_errors import bad, not_found, refusal

Record = dict[str, Any]
KINDS: dict[str, tuple[type, ...]] = {
    "text": (str,),
    "text?": (str, type(None)),
    "bool": (bool,),
    "int": (int,),
    "int?": (int, type(None)),
    "list": (list,),
    "dict": (dict,),
    "dict?": (dict, type(None)),
    "any": (object,),
}
REQUIRED = object()
LONGEST_LIMIT = 18
"""Digits; what is longer is no number that a client means."""


@dataclass(frozen=True, slots=True)
class Attr:
    """`default` REQUIRED: must be given. `fixed`: set on create only. `admin`: set by administrators only.
    `hidden`: shown to administrators only. `computed`: never given."""

    kind: str = "text"
    default: Any = ""
    fixed: bool = False
    admin: bool = False
    hidden: bool = False
    computed: bool = False


def _nothing(*_arguments: Any) -> None:
    """A hook that does nothing."""


def _own_or_shared(req: Request, record: Record) -> bool:
    return bool(record["project_id"] == req.who.project_id or record.get("shared"))


@dataclass(frozen=True, slots=True)
class Noun:
    """Hooks, all in the transaction of the write: `making` completes and checks a new record before it is stored,
    `made` does what follows; `changing` checks what is about to change (and may complete it); `removing` checks and
    clears. `complete` adds to records what is kept elsewhere."""

    name: str
    attrs: dict[str, Attr]
    path: str = ""
    making: Callable[[Connection, Request, Record], None] = _nothing
    made: Callable[[Connection, Request, Record], None] = _nothing
    changing: Callable[[Connection, Request, Record, Record], None] = _nothing
    removing: Callable[[Connection, Request, Record], None] = _nothing
    complete: Callable[[Connection, list[Record]], None] = _nothing
    visible: Callable[[Request, Record], bool] = _own_or_shared
    narrowed: Callable[[Connection, Request], dict[str, list[str]]] = field(default=lambda tx, req: {})
    written: Callable[[list[Record]], None] = _nothing
    """After a write was committed, before it is answered: may complete what is answered. Empty after a delete."""
    changed: Callable[[Record, Record], None] = _nothing
    """After a write was committed: what the record was (empty: there was none), and is (empty: it is gone)."""
    listing: Callable[[Connection, Request], None] | None = None
    """A write to be made before a listing."""

    @property
    def plural(self) -> str:
        return f"{self.name}s"

    @property
    def segment(self) -> str:
        return self.path or self.plural


class Records:
    """The handlers of one noun."""

    def __init__(self, noun: Noun, db: Database) -> None:
        self.noun, self._db = noun, db

    def routes(self) -> tuple[Route, ...]:
        many = f"/v2.0/{self.noun.segment}"
        one = f"{many}/{{id}}"
        return (
            Route("GET", many, self.index),
            Route("POST", many, self.create),
            Route("GET", one, self.show),
            Route("PUT", one, self.change),
            Route("DELETE", one, self.delete),
            Route("GET", f"{one}/tags", self.tags),
            Route("PUT", f"{one}/tags", self.put_tags),
            Route("DELETE", f"{one}/tags", self.clear_tags),
            Route("GET", f"{one}/tags/{{tag}}", self.tag),
            Route("PUT", f"{one}/tags/{{tag}}", self.add_tag),
            Route("DELETE", f"{one}/tags/{{tag}}", self.remove_tag),
        )

    def index(self, req: Request) -> Response:
        noun = self.noun
        listing = noun.listing
        if listing is not None:
            self._db.run(lambda tx: listing(tx, req))
        with self._db.connect() as tx:
            found = store.search(tx, noun.name, **_narrowed(req), **noun.narrowed(tx, req))
            noun.complete(tx, found)
        found = [record for record in found if req.is_admin or noun.visible(req, record)]
        shown = [self._view(req, record) for record in found]
        shown = [record for record in shown if _fits(record, req.query)]
        page, links = _page(req, _sorted(req, shown))
        names = req.query.get("fields", [])
        body: Record = {noun.plural: [fields_shown(record, names) for record in page]}
        if links:
            body[f"{noun.plural}_links"] = links
        return Response(200, body)

    def show(self, req: Request) -> Response:
        with self._db.connect() as tx:
            record = self.seen(tx, req, req.params["id"])
        shown = fields_shown(self._view(req, record), req.query.get("fields", []))
        return Response(200, {self.noun.name: shown})

    def create(self, req: Request) -> Response:
        """One, or all of a list in one transaction."""
        noun = self.noun
        many = isinstance(req.body, dict) and isinstance(req.body.get(noun.plural), list)
        asked = req.body[noun.plural] if many else [req.content(noun.name)]

        def work(tx: Connection) -> list[Record]:
            made = [self.make(tx, req, given) for given in asked]
            noun.complete(tx, made)
            return made

        written = self._db.run(work)
        noun.written(written)
        for record in written:
            noun.changed({}, record)
        shown = [self._view(req, record) for record in written]
        return Response(201, {noun.plural: shown} if many else {noun.name: shown[0]})

    def make(self, tx: Connection, req: Request, given: Any) -> Record:
        """A new record, stored. Raises Invalid, Forbidden, Conflict, NotFound."""
        noun = self.noun
        if not isinstance(given, dict):
            raise bad(f"A {noun.name} must be an object.")
        project_id = given.get("project_id") or given.get("tenant_id") or req.who.project_id
        if project_id != req.who.project_id:
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

    def change(self, req: Request) -> Response:
        noun = self.noun
        given = req.content(noun.name)

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
            store.change(tx, bare, {key: value for key, value in values.items() if key in noun.attrs})
            new = self._get(tx, old["id"])
            noun.complete(tx, [new])
            return was, new

        was, record = self._db.run(work)
        noun.written([record])
        noun.changed(was, record)
        return Response(200, {noun.name: self._view(req, record)})

    def delete(self, req: Request) -> Response:
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

    def tags(self, req: Request) -> Response:
        with self._db.connect() as tx:
            return Response(200, {"tags": self.seen(tx, req, req.params["id"])["tags"]})

    def tag(self, req: Request) -> Response:
        with self._db.connect() as tx:
            if req.params["tag"] not in self.seen(tx, req, req.params["id"])["tags"]:
                raise refusal(NotFound, "TagNotFound", f"Tag {req.params['tag']} could not be found.")
        return Response(204)

    def put_tags(self, req: Request) -> Response:
        asked = req.body.get("tags") if isinstance(req.body, dict) else None
        if not isinstance(asked, list) or not all(isinstance(tag, str) and 0 < len(tag) <= 255 for tag in asked):
            raise bad("tags must be a list of strings.")
        return Response(200, {"tags": self._retag(req, lambda tags: set(asked))})

    def clear_tags(self, req: Request) -> Response:
        self._retag(req, lambda tags: set())
        return Response(204)

    def add_tag(self, req: Request) -> Response:
        self._retag(req, lambda tags: tags | {req.params["tag"]})
        return Response(201)

    def remove_tag(self, req: Request) -> Response:
        self.tag(req)
        self._retag(req, lambda tags: tags - {req.params["tag"]})
        return Response(204)

    def _retag(self, req: Request, change: Callable[[set[str]], set[str]]) -> list[str]:
        def work(tx: Connection) -> list[str]:
            record = self.own(tx, req, req.params["id"])
            tags = sorted(change(set(record["tags"])))
            store.change(tx, self._get(tx, record["id"]), {"tags": tags})
            return tags

        return self._db.run(work)

    def seen(self, tx: Connection, req: Request, record_id: str) -> Record:
        """The completed record. Raises NotFound, also for what the caller may not see."""
        record = self._get(tx, record_id)
        self.noun.complete(tx, [record])
        if not req.is_admin and not self.noun.visible(req, record):
            raise not_found(self.noun.name, record_id)
        return record

    def own(self, tx: Connection, req: Request, record_id: str) -> Record:
        """Raises NotFound, and Forbidden for what the caller may only see."""
        record = self.seen(tx, req, record_id)
        if record["project_id"] != req.who.project_id and not req.is_admin:
            raise refusal(Forbidden, "PolicyNotAuthorized", "This is disallowed by policy.")
        return record

    def _get(self, tx: Connection, record_id: str) -> Record:
        found = store.find(tx, self.noun.name, record_id)
        if found is None:
            raise not_found(self.noun.name, record_id)
        return found

    def _check(self, req: Request, values: Record, old: Record, *, creating: bool) -> None:
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
            kinds = KINDS[attr.kind]
            if not isinstance(value, kinds) or (isinstance(value, bool) and int in kinds):
                raise bad(f"Invalid input for {name}. Reason: '{value}' is not a valid {attr.kind.rstrip('?')}.",
                          "HTTPBadRequest")  # fmt: skip
            if isinstance(value, str) and len(value) > 255:
                raise bad(f"Invalid input for {name}. Reason: it exceeds maximum length of 255.", "HTTPBadRequest")

    def _view(self, req: Request, record: Record) -> Record:
        hidden = () if req.is_admin else [name for name, attr in self.noun.attrs.items() if attr.hidden]
        shown = {name: value for name, value in record.items() if name not in hidden and name not in _INNER}
        if self.noun.name != "port":
            shown.pop("device_id", None)
        if "network_id" not in self.noun.attrs:
            shown.pop("network_id", None)
        if "name" not in self.noun.attrs:
            shown.pop("name", None)
        return shown | {"tenant_id": record["project_id"]}


_INNER = ("parent_id",)
_NO_FILTERS = ("fields", "limit", "marker", "sort_key", "sort_dir", "page_reverse")
_REVISION = re.compile(r"revision_number=(\d+)")


def _named(values: Record) -> Record:
    """No name is an empty name."""
    return values | {"name": ""} if values.get("name", "") is None else values


def _match_revision(req: Request, record: Record) -> None:
    """Raises Invalid (412) when the caller meant another revision."""
    found = _REVISION.search(req.headers.get("If-Match", ""))
    if found and int(found[1]) != record["revision_number"]:
        message = f"Constrained to {found[1]}, but current revision is {record['revision_number']}"
        raise Invalid(reason=message, kind="RevisionNumberConstraintFailed", status=412)


def _narrowed(req: Request) -> dict[str, list[str]]:
    """The part of the filters that the database can look for; an id that users can't see is filtered later."""
    found = {}
    for name, values in req.query.items():
        column = "project_id" if name == "tenant_id" else name
        if store.searchable(column):
            found[column] = values
    return found


def _fits(record: Record, query: Any) -> bool:
    return all(name in _NO_FILTERS or _matches(record, name, values) for name, values in query.items())


def _matches(record: Record, name: str, values: list[str]) -> bool:
    """Whether an attribute has one of these values; attributes that there are not, are no filters."""
    if name in ("tags", "tags-any", "not-tags", "not-tags-any"):
        asked = {part for value in values for part in value.split(",")}
        has = set(record["tags"])
        met = bool(asked & has) if name.endswith("-any") else asked <= has
        return met != name.startswith("not-")
    if name == "fixed_ips":
        pairs = [value.partition("=") for value in values]
        return any(
            all(ip.get(key) == text for key, _, text in pairs if key in ("ip_address", "subnet_id"))
            for ip in record.get("fixed_ips", ())
        )
    if name not in record:
        return True
    actual = record[name]
    if isinstance(actual, bool):
        return str(actual).lower() in [value.lower() for value in values]
    if isinstance(actual, list):
        return any(value in actual for value in values)
    return ("" if actual is None else str(actual)) in values


def _sorted(req: Request, shown: list[Record]) -> list[Record]:
    directions = req.query.get("sort_dir", [])
    for at, key in reversed(list(enumerate(req.query.get("sort_key", [])))):
        down = (directions[at] if at < len(directions) else "asc") == "desc"
        shown = sorted(shown, key=lambda record: str(record.get(key) or ""), reverse=down)
    return shown


def _page(req: Request, shown: list[Record]) -> tuple[list[Record], list[dict[str, str]]]:
    limit_text, marker = req.one("limit"), req.one("marker")
    if marker is not None:
        places = [at for at, record in enumerate(shown) if record["id"] == marker]
        if not places:
            raise bad(f"The marker {marker} could not be found.", "HTTPBadRequest")
        shown = shown[places[0] + 1 :]
    if limit_text is None:
        return shown, []
    if not limit_text.isdigit() or len(limit_text) > LONGEST_LIMIT:
        raise bad(f"Limit must be an integer 0 or greater and not '{limit_text}'", "HTTPBadRequest")
    limit = int(limit_text)
    if not limit or len(shown) <= limit:
        return shown, []
    rest = [f"{name}={value}" for name, values in req.query.items() if name != "marker" for value in values]
    href = f"{req.origin}{req.path}?{'&'.join([*rest, 'marker=' + shown[limit - 1]['id']])}"
    return shown[:limit], [{"rel": "next", "href": href}]
