"""Domains, projects, users, roles, services, endpoints and regions: made, listed, changed and deleted alike."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, update
from sqlalchemy.exc import IntegrityError

from cell_service.context import Clock
from cell_service.db.sql.engine import Database
from cell_service.errors import Conflict, Forbidden, Invalid, NotFound
from cell_service.http.response import Response
from tools.companions.identity import schemas, store
from tools.companions.identity.tokens import demand_text
from tools.companions.route import CompanionRequest, CompanionRoute


@dataclass(frozen=True, slots=True)
class Noun:
    """`required` on create; `defaults` for what is not given. `open_to_users`: any user may read the collection.
    `removed` clears what hangs on a record that is being deleted."""

    name: str
    table: Table
    required: tuple[str, ...] = ()
    defaults: tuple[tuple[str, Any], ...] = ()
    filters: tuple[str, ...] = ("name",)
    refers: tuple[tuple[str, Table], ...] = ()
    removed: Callable[[Connection, str], None] = lambda tx, record_id: None

    @property
    def plural(self) -> str:
        return f"{self.name}s"


def _project_removed(tx: Connection, record_id: str) -> None:
    store.remove(tx, store.assignments, target_type="project", target_id=record_id)
    store.remove(tx, store.application_credentials, project_id=record_id)


def _user_removed(tx: Connection, record_id: str) -> None:
    store.remove(tx, store.assignments, user_id=record_id)
    store.remove(tx, store.application_credentials, user_id=record_id)


def _domain_removed(tx: Connection, record_id: str) -> None:
    domain = store.row(tx, store.domains, id=record_id)
    if domain and domain["enabled"]:
        raise Forbidden(reason="Cannot delete a domain that is enabled, please disable it first.")
    for project in store.rows(tx, store.projects, domain_id=record_id):
        _project_removed(tx, project["id"])
    for user in store.rows(tx, store.users, domain_id=record_id):
        _user_removed(tx, user["id"])
    store.remove(tx, store.projects, domain_id=record_id)
    store.remove(tx, store.users, domain_id=record_id)
    store.remove(tx, store.assignments, target_type="domain", target_id=record_id)


def _role_removed(tx: Connection, record_id: str) -> None:
    store.remove(tx, store.assignments, role_id=record_id)


def _service_removed(tx: Connection, record_id: str) -> None:
    store.remove(tx, store.endpoints, service_id=record_id)


_ON = (("enabled", True), ("description", ""))
DOMAIN_ID = ("domain_id", "default")
NOUNS = (
    Noun("domain", store.domains, ("name",), _ON, ("name", "enabled"), removed=_domain_removed),
    Noun(
        "project",
        store.projects,
        ("name",),
        (*_ON, DOMAIN_ID, ("is_domain", False)),
        ("name", "domain_id", "enabled"),
        (("domain_id", store.domains),),
        _project_removed,
    ),
    Noun(
        "user",
        store.users,
        ("name",),
        (("enabled", True), DOMAIN_ID),
        ("name", "domain_id", "enabled"),
        (("domain_id", store.domains),),
        _user_removed,
    ),
    Noun("role", store.roles, ("name",), (("domain_id", None), ("description", None)), removed=_role_removed),
    Noun("region", store.regions, (), (("description", ""), ("parent_region_id", None)), ("parent_region_id",)),
    Noun("service", store.services, ("type",), (("name", ""), *_ON), ("name", "type"), removed=_service_removed),
    Noun(
        "endpoint",
        store.endpoints,
        ("service_id", "interface", "url"),
        (("enabled", True), ("region_id", None)),
        ("service_id", "interface", "region_id"),
        (("service_id", store.services),),
    ),
)
_HIDDEN = ("password", "valid_since")


def view(noun: Noun, record: dict[str, Any], origin: str) -> dict[str, Any]:
    shown = {name: value for name, value in record.items() if name not in _HIDDEN}
    if noun.name == "project":
        shown = {"parent_id": shown["domain_id"], "tags": [], "options": {}} | shown
    elif noun.name == "user":
        shown = {"password_expires_at": None, "options": {}} | shown
    elif noun.name == "endpoint":
        shown["region"] = shown["region_id"]
    return shown | {"links": {"self": f"{origin}/v3/{noun.plural}/{record['id']}"}}


def targets(tx: Connection, noun: Noun, user_id: str, origin: str) -> list[dict[str, Any]]:
    """The enabled projects (or domains) on which a user has a role."""
    ids = {row["target_id"] for row in store.rows(tx, store.assignments, user_id=user_id, target_type=noun.name)}
    return [view(noun, record, origin) for record in store.rows(tx, noun.table, enabled=True) if record["id"] in ids]


class Records:
    """The handlers of one noun. `rounds`: the cost of password hashes."""

    def __init__(self, noun: Noun, db: Database, rounds: int, clock: Clock) -> None:
        self._noun, self._db, self._rounds, self._clock = noun, db, rounds, clock

    def routes(self) -> tuple[CompanionRoute, ...]:
        one, many = f"/v3/{self._noun.plural}/{{id}}", f"/v3/{self._noun.plural}"
        made = [
            CompanionRoute("GET", many, self.index),
            CompanionRoute("POST", many, self.create, body=schemas.noun(self._noun.name)),
            CompanionRoute("GET", one, self.show),
            CompanionRoute("PATCH", one, self.change, body=schemas.noun(self._noun.name)),
            CompanionRoute("DELETE", one, self.delete),
        ]
        if self._noun.name == "region":
            made.append(CompanionRoute("PUT", one, self.create, body=schemas.noun(self._noun.name)))
        return tuple(made)

    def index(self, req: CompanionRequest) -> Response:
        """The records that match; users who are no administrators get only what they may know."""
        noun = self._noun
        with self._db.connect() as tx:
            records = store.rows(tx, noun.table)
        if noun.name in ("user", "project", "domain") and not req.is_admin:
            known = (req.caller.user_id, req.caller.project_id, req.caller.user_domain_id)
            if noun.name != "domain" and not req.one("name"):
                req.demand_admin()
            records = [record for record in records if record["id"] in known]
        for name in noun.filters:
            value = req.one(name)
            if value is not None:
                records = [record for record in records if _text(record.get(name)) == value]
        return Response(
            200,
            {
                noun.plural: [view(noun, record, req.origin) for record in records],
                "links": {"self": f"{req.origin}{req.path}", "previous": None, "next": None},
            },
        )

    def show(self, req: CompanionRequest) -> Response:
        own = (req.caller.user_id, req.caller.project_id, req.caller.user_domain_id)
        if self._noun.name in ("user", "project", "domain") and req.params["id"] not in own:
            req.demand_admin()
        with self._db.connect() as tx:
            return Response(200, {self._noun.name: view(self._noun, self._get(tx, req.params["id"]), req.origin)})

    def create(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        noun = self._noun
        given = _clean(req.content(noun.name))
        for name in noun.required:
            demand_text(given.get(name), name)
        values = dict(noun.defaults) | given
        values["id"] = str(req.params.get("id") or (given.get("id") if noun.name == "region" else "") or store.new_id())
        if noun.name == "user":
            password = given.get("password")
            values["password"] = store.hashed(str(password), self._rounds) if password is not None else None
            values["valid_since"] = 0.0

        def work(tx: Connection) -> dict[str, Any]:
            self._check_refers(tx, values)
            if values.get("region_id") and not store.row(tx, store.regions, id=values["region_id"]):
                store.add(tx, store.regions, {"id": values["region_id"], "description": "", "parent_region_id": None})
            store.add(tx, noun.table, values)
            return self._get(tx, values["id"])

        return Response(201, {noun.name: view(noun, self._run(work), req.origin)})

    def change(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        noun = self._noun
        given = _clean(req.content(noun.name))
        record_id = req.params["id"]
        if given.get("id", record_id) != record_id:
            raise Invalid(reason="The id cannot be changed.")
        if noun.name == "user" and given.get("password") is not None:
            given["password"] = store.hashed(str(given["password"]), self._rounds)
        if noun.name == "user" and ("password" in given or given.get("enabled") is False):
            given["valid_since"] = self._clock.now().timestamp()

        def work(tx: Connection) -> dict[str, Any]:
            old = self._get(tx, record_id)
            self._check_refers(tx, given)
            new = old | given
            columns = {name: new[name] for name in noun.table.c.keys() if name in new}  # noqa: SIM118
            rest = {name: value for name, value in new.items() if name not in noun.table.c}
            tx.execute(update(noun.table).where(noun.table.c.id == record_id).values(**columns, doc=rest))
            return self._get(tx, record_id)

        return Response(200, {noun.name: view(noun, self._run(work), req.origin)})

    def delete(self, req: CompanionRequest) -> Response:
        req.demand_admin()

        def work(tx: Connection) -> None:
            self._get(tx, req.params["id"])
            self._noun.removed(tx, req.params["id"])
            store.remove(tx, self._noun.table, id=req.params["id"])

        self._run(work)
        return Response(204)

    def _get(self, tx: Connection, record_id: str) -> dict[str, Any]:
        found = store.row(tx, self._noun.table, id=record_id)
        if found is None:
            raise NotFound(reason=f"Could not find {self._noun.name}: {record_id}.")
        return found

    def _check_refers(self, tx: Connection, values: dict[str, Any]) -> None:
        for name, table in self._noun.refers:
            if name in values and store.row(tx, table, id=values[name]) is None:
                raise Invalid(reason=f"Could not find {name.removesuffix('_id')}: {values[name]}.")

    def _run(self, work: Callable[[Connection], Any]) -> Any:
        try:
            return self._db.run(work)
        except IntegrityError as error:
            raise Conflict(reason=f"Conflict occurred attempting to store {self._noun.name}: it is there.") from error


def _clean(given: dict[str, Any]) -> dict[str, Any]:
    if "enabled" in given and not isinstance(given["enabled"], bool):
        raise Invalid(reason="enabled must be true or false.")
    if "region" in given:
        given = {**given, "region_id": given["region"]}
        del given["region"]
    return {name: value for name, value in given.items() if name not in ("links", "valid_since", "doc")}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
