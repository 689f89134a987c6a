"""Unified limits (Identity API v3): what services' resources are limited to, by default and for single projects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, update
from sqlalchemy.exc import IntegrityError

from cell_service.db.sql.engine import Database
from cell_service.errors import Conflict, Forbidden, Invalid, NotFound
from cell_service.http.response import Response
from tools.companions.identity import schemas, store
from tools.companions.route import CompanionRequest, CompanionRoute

MODEL = {
    "name": "flat",
    "description": "Every project has its limits by itself.",
}
NONE = ""
"""No region: a limit in all of them; and no domain. Kept as text, so that the table's key decides."""
_NULLABLE = ("region_id", "domain_id")


@dataclass(frozen=True, slots=True)
class LimitKind:
    """Registered limits, or those of projects. `amount` names their number."""

    name: str
    table: Table
    amount: str
    fixed: tuple[str, ...]
    """The fields that can't be changed later."""

    @property
    def plural(self) -> str:
        return f"{self.name}s"


REGISTERED = LimitKind("registered_limit", store.registered_limits, "default_limit", ())
LIMIT = LimitKind("limit", store.limits, "resource_limit", ("service_id", "region_id", "resource_name", "project_id"))


class Limits:
    """The handlers of one kind."""

    def __init__(self, kind: LimitKind, db: Database) -> None:
        self._kind, self._db = kind, db

    def routes(self) -> tuple[CompanionRoute, ...]:
        one, many = f"/v3/{self._kind.plural}/{{id}}", f"/v3/{self._kind.plural}"
        made = [
            CompanionRoute("GET", many, self.index),
            CompanionRoute("POST", many, self.create, body=schemas.limits(self._kind.plural)),
            CompanionRoute("GET", one, self.show),
            CompanionRoute("PATCH", one, self.change, body=schemas.limit(self._kind.name)),
            CompanionRoute("DELETE", one, self.delete),
        ]
        if self._kind is LIMIT:
            made.insert(0, CompanionRoute("GET", "/v3/limits/model", lambda req: Response(200, {"model": MODEL})))
        return tuple(made)

    def index(self, req: CompanionRequest) -> Response:
        """The limits that match; of limits, users who are no administrators see their project's."""
        with self._db.connect() as tx:
            found = store.rows(tx, self._kind.table)
        for name in ("service_id", "region_id", "resource_name", "project_id", "domain_id"):
            wanted = req.one(name)
            if wanted is not None and name in self._kind.table.c:
                found = [row for row in found if row[name] == wanted]
        if self._kind is LIMIT and not req.is_admin:
            found = [row for row in found if row["project_id"] == req.caller.project_id]
        links = {"self": f"{req.origin}{req.path}", "previous": None, "next": None}
        return Response(200, {self._kind.plural: [self._view(req, row) for row in found], "links": links})

    def show(self, req: CompanionRequest) -> Response:
        with self._db.connect() as tx:
            found = self._get(tx, req.params["id"])
        if self._kind is LIMIT and not req.is_admin and found["project_id"] != req.caller.project_id:
            raise NotFound(reason=f"Could not find {self._kind.name}: {found['id']}.")
        return Response(200, {self._kind.name: self._view(req, found)})

    def create(self, req: CompanionRequest) -> Response:
        """201 with all that were made, or none of them."""
        req.demand_admin()
        many = req.body.get(self._kind.plural) if isinstance(req.body, dict) else None
        if not isinstance(many, list) or not many or not all(isinstance(each, dict) for each in many):
            raise Invalid(reason=f"{self._kind.plural} must be a list with at least one object.")
        rows = [self._row(each) for each in many]

        def work(tx: Connection) -> None:
            for row in rows:
                self._check(tx, row)
                store.add(tx, self._kind.table, row)

        self._run(work)
        return Response(201, {self._kind.plural: [self._view(req, row) for row in rows]})

    def change(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        given = {name: value for name, value in req.content(self._kind.name).items() if name != "links"}
        if set(given) & {"id", *self._kind.fixed}:
            raise Invalid(reason="Only the number and the description of a limit can be changed.")

        def work(tx: Connection) -> dict[str, Any]:
            row = self._row(self._get(tx, req.params["id"]) | given)
            self._check(tx, row)
            columns = {name: value for name, value in row.items() if name in self._kind.table.c}
            statement = update(self._kind.table).where(self._kind.table.c.id == row["id"])
            tx.execute(statement.values(**columns, doc={"description": row["description"]}))
            return row

        return Response(200, {self._kind.name: self._view(req, self._run(work))})

    def delete(self, req: CompanionRequest) -> Response:
        """204; 403 for a registered limit that projects' limits refer to."""
        req.demand_admin()

        def work(tx: Connection) -> None:
            found = self._get(tx, req.params["id"])
            if self._kind is REGISTERED and store.rows(tx, store.limits, **_reference(found)):
                raise Forbidden(reason="Unable to delete a registered limit that limits of projects refer to.")
            store.remove(tx, self._kind.table, id=found["id"])

        self._run(work)
        return Response(204)

    def _row(self, given: dict[str, Any]) -> dict[str, Any]:
        texts = ["service_id", "resource_name"] + (["project_id"] if self._kind is LIMIT else [])
        for name in texts:
            if not isinstance(given.get(name), str) or not given[name]:
                raise Invalid(reason=f"{name} is required.")
        amount = given.get(self._kind.amount)
        if not isinstance(amount, int) or isinstance(amount, bool) or not -1 <= amount <= 2**31 - 1:
            raise Invalid(reason=f"{self._kind.amount} must be a whole number, -1 for no limit.")
        row = {"id": given.get("id") or store.new_id(), self._kind.amount: amount}
        row |= {name: given[name] for name in texts} | {"description": given.get("description")}
        return row | {name: given.get(name) or NONE for name in _NULLABLE if name in self._kind.table.c}

    def _check(self, tx: Connection, row: dict[str, Any]) -> None:
        for name, table in (("service_id", store.services), ("region_id", store.regions)):
            if row[name] and store.row(tx, table, id=row[name]) is None:
                raise Invalid(reason=f"Could not find {name.removesuffix('_id')}: {row[name]}.")
        if self._kind is REGISTERED:
            return
        if store.row(tx, store.projects, id=row["project_id"]) is None:
            raise Invalid(reason=f"Could not find project: {row['project_id']}.")
        if not store.rows(tx, store.registered_limits, **_reference(row)):
            raise Forbidden(reason=f"There is no registered limit of {row['resource_name']} that this could refer to.")

    def _get(self, tx: Connection, record_id: str) -> dict[str, Any]:
        found = store.row(tx, self._kind.table, id=record_id)
        if found is None:
            raise NotFound(reason=f"Could not find {self._kind.name}: {record_id}.")
        return found

    def _run(self, work: Callable[[Connection], Any]) -> Any:
        try:
            return self._db.run(work)
        except IntegrityError as error:
            raise Conflict(reason=f"There is such a {self._kind.name} already.") from error

    def _view(self, req: CompanionRequest, row: dict[str, Any]) -> dict[str, Any]:
        shown = row | {name: row[name] or None for name in _NULLABLE if name in row}
        return shown | {"links": {"self": f"{req.origin}/v3/{self._kind.plural}/{row['id']}"}}


def _reference(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("service_id", "region_id", "resource_name")}
