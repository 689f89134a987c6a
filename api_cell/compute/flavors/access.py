"""Which projects may use a private flavor."""

from __future__ import annotations

import re

from sqlalchemy import Connection

from api_cell.compute import behaviours
from api_cell.edge.route import Request, Response
from cell_service.errors import Conflict, Invalid, NotFound
from mapping_db import flavors as rows

_PROJECT_ID = re.compile(r"[a-zA-Z0-9-]+\Z")


def index(req: Request) -> Response:
    """200 {"flavor_access": [{"flavor_id", "tenant_id"}, ...]}; 404 for a public flavor, which has no list."""
    flavorid = req.params["flavor_id"]
    with req.cloud.db.connect() as tx:
        if rows.get(tx, flavorid).is_public:
            raise NotFound(reason="Access list not available for public flavors.")
        projects = rows.projects_of(tx, flavorid)
    return _access(flavorid, projects)


def add(req: Request) -> Response:
    """200 with the list; 409 when the project has access already (from 2.7 on also for a public flavor); 400 for what
    can be no project's id."""
    flavorid, project_id = req.params["id"], req.body["addTenantAccess"]["tenant"]

    if not _PROJECT_ID.match(project_id):
        raise Invalid(reason=f"Project ID {project_id} is not a valid project.")

    def work(tx: Connection) -> list[str]:
        flavor = rows.get(tx, flavorid)
        if flavor.is_public and behaviours.PUBLIC_FLAVORS_HAVE_NO_ACCESS_LIST.at(req.version):
            raise Conflict(reason="Can not add access to a public flavor.")
        rows.add_project(tx, flavorid, project_id)
        return rows.projects_of(tx, flavorid)

    return _access(flavorid, req.cloud.db.run(work))


def remove(req: Request) -> Response:
    """200 with the list; 404 when the project has no access."""
    flavorid, project_id = req.params["id"], req.body["removeTenantAccess"]["tenant"]

    def work(tx: Connection) -> list[str]:
        rows.remove_project(tx, flavorid, project_id)
        return rows.projects_of(tx, flavorid)

    return _access(flavorid, req.cloud.db.run(work))


def _access(flavorid: str, projects: list[str]) -> Response:
    return Response(200, {"flavor_access": [{"flavor_id": flavorid, "tenant_id": project} for project in projects]})
