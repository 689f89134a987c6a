"""Quotas of the network companion."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select

from cell_service.db.sql.engine import Database
from cell_service.errors import Conflict, Invalid
from cell_service.http.response import Response
from tools.companions.network import store
from tools.companions.network.errors import refusal
from tools.companions.route import CompanionRequest, CompanionRoute

DEFAULTS = {
    "network": 100,
    "subnet": 100,
    "subnetpool": -1,
    "port": 500,
    "router": 10,
    "floatingip": 50,
    "security_group": 10,
    "security_group_rule": 100,
    "rbac_policy": 10,
    "trunk": -1,
}


def limits_of(tx: Connection, project_id: str) -> dict[str, int]:
    """Resource → limit, -1 for none."""
    own = tx.execute(select(store.quotas).where(store.quotas.c.project_id == project_id))
    return DEFAULTS | {row.resource: row.most for row in own}


def used(tx: Connection, project_id: str, resource: str) -> int:
    query = select(func.count()).where(store.records.c.noun == resource, store.records.c.project_id == project_id)
    return int(tx.execute(query).scalar_one())


def demand(tx: Connection, project_id: str, resource: str) -> None:
    """Raises Conflict (OverQuota) unless the project may have one more."""
    limit = limits_of(tx, project_id).get(resource, -1)
    if 0 <= limit <= used(tx, project_id, resource):
        raise refusal(Conflict, "OverQuota", f"Quota exceeded for resources: ['{resource}'].")


class Quotas:
    """The handlers of /v2.0/quotas."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def routes(self) -> tuple[CompanionRoute, ...]:
        one = "/v2.0/quotas/{project}"
        return (
            CompanionRoute("GET", "/v2.0/quotas", self.index),
            CompanionRoute("GET", f"{one}/default", lambda req: Response(200, {"quota": dict(DEFAULTS)})),
            CompanionRoute("GET", f"{one}/details", self.details),
            CompanionRoute("GET", one, self.show),
            CompanionRoute("PUT", one, self.change),
            CompanionRoute("DELETE", one, self.reset),
        )

    def index(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        with self._db.connect() as tx:
            projects = tx.execute(select(store.quotas.c.project_id).distinct()).scalars().all()
            shown = [{**limits_of(tx, project), "project_id": project, "tenant_id": project} for project in projects]
        return Response(200, {"quotas": shown})

    def show(self, req: CompanionRequest) -> Response:
        project = self._project(req)
        with self._db.connect() as tx:
            return Response(200, {"quota": limits_of(tx, project)})

    def details(self, req: CompanionRequest) -> Response:
        project = self._project(req)
        with self._db.connect() as tx:
            shown = {
                resource: {"limit": limit, "used": used(tx, project, resource), "reserved": 0}
                for resource, limit in limits_of(tx, project).items()
            }
        return Response(200, {"quota": shown})

    def change(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        project = req.params["project"]
        given = req.content("quota")
        for resource, limit in given.items():
            if resource in ("tenant_id", "project_id"):
                continue
            if resource not in DEFAULTS or isinstance(limit, bool) or not isinstance(limit, int) or limit < -1:
                raise Invalid(reason=f"Invalid quota for {resource}.")

        def work(tx: Connection) -> dict[str, int]:
            for resource, limit in given.items():
                if resource in DEFAULTS:
                    key = (store.quotas.c.project_id == project, store.quotas.c.resource == resource)
                    tx.execute(delete(store.quotas).where(*key))
                    tx.execute(insert(store.quotas).values(project_id=project, resource=resource, most=limit))
            return limits_of(tx, project)

        return Response(200, {"quota": self._db.run(work)})

    def reset(self, req: CompanionRequest) -> Response:
        req.demand_admin()
        gone = delete(store.quotas).where(store.quotas.c.project_id == req.params["project"])
        self._db.run(lambda tx: tx.execute(gone).rowcount)
        return Response(204)

    def _project(self, req: CompanionRequest) -> str:
        if req.params["project"] != req.caller.project_id:
            req.demand_admin()
        return req.params["project"]
