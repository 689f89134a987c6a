"""Server groups: policies on where their members run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from api_cell import group_members, quota_check
from api_cell.edge.links import page_size, page_start
from api_cell.edge.route import Request, Response, Schema
from api_cell.edge.shapes import NAME, TEXT, WHOLE, query_until_closed, strict, wrapped
from api_cell.edge.versioned import Field, View, bodies_of
from cell_service.errors import Invalid, ServerGroupNotFound
from mapping_db import quotas
from mapping_db import server_groups as rows
from mapping_db.server_groups import Group

_HARD: Schema = {"type": "string", "enum": ["affinity", "anti-affinity"]}
_ANY: Schema = {"type": "string", "enum": ["affinity", "anti-affinity", "soft-affinity", "soft-anti-affinity"]}


def _just_one(policy: Schema) -> Schema:
    return {"type": "array", "items": policy, "uniqueItems": True, "minItems": 1, "maxItems": 1}


CREATE = bodies_of(
    lambda fields: wrapped("server_group", fields),
    Field("name", NAME, required=True),
    Field("policies", _just_one(_HARD), until=(2, 14), required=True),
    Field("policies", _just_one(_ANY), since=(2, 15), until=(2, 63), required=True),
    Field("policy", _ANY, since=(2, 64), required=True),
    Field("rules", strict({"max_server_per_host": {**WHOLE, "minimum": 1}}), since=(2, 64)),
)
LIST = query_until_closed({"all_projects": TEXT, "limit": WHOLE, "offset": WHOLE})


def index(req: Request) -> Response:
    """200 {"server_groups": [...]}: the project's, or all for an administrator who says all_projects."""
    project_id: str | None = req.ctx.project_id
    if "all_projects" in req.query and req.ctx.is_admin:
        req.demand("os_compute_api:os-server-groups:index:all_projects")
        project_id = None
    limit = page_size(req, req.services.settings.api.max_limit)
    with req.cloud.db.connect() as tx:
        groups = rows.of_project(tx, project_id, limit=limit, offset=page_start(req))
    return Response(200, {"server_groups": _views(req, groups)})


def show(req: Request) -> Response:
    """200 {"server_group": {...}}; 404 also for another project's."""
    with req.cloud.db.connect() as tx:
        group = _own(req, tx)
    req.demand("os_compute_api:os-server-groups:show", {"project_id": group.project_id})
    return Response(200, {"server_group": _views(req, [group])[0]})


def create(req: Request) -> Response:
    """200 {"server_group": {...}}; 403 over quota."""
    given, now, ctx = req.body["server_group"], req.cloud.clock.now(), req.ctx
    policy = given["policy"] if "policy" in given else given["policies"][0]
    rules = {name: int(value) for name, value in given.get("rules", {}).items()}
    if rules and policy != "anti-affinity":
        raise Invalid(reason="Only anti-affinity policy supports rules.")
    uuid = str(uuid4())

    most, of_user = quota_check.project_and_user_limits(req.cloud, req.services, req.ctx, ctx.project_id, ctx.user_id)

    def work(tx: Connection) -> Group:
        quotas.reserve(tx, ctx.project_id, ctx.user_id, {"server_groups": 1}, most, of_user)
        return rows.add(
            tx,
            uuid=uuid,
            project_id=ctx.project_id,
            user_id=ctx.user_id,
            name=given["name"],
            policy=policy,
            now=now,
            rules=rules,
        )

    return Response(200, {"server_group": _VIEW.at(req.version, req.cloud.db.run(work))})


def delete(req: Request) -> Response:
    """204; the servers stay."""

    def work(tx: Connection) -> None:
        group = _own(req, tx)
        req.demand("os_compute_api:os-server-groups:delete", {"project_id": group.project_id})
        rows.remove(tx, group.uuid)
        quotas.release(tx, group.project_id, group.user_id, {"server_groups": 1})

    req.cloud.db.run(work)
    return Response(204)


def _views(req: Request, groups: list[Group]) -> list[dict[str, Any]]:
    """The groups with those of their members that are not deleted."""
    departed = group_members.departed(req.cloud, req.ctx.deadline, [uuid for group in groups for uuid in group.members])
    return [
        _VIEW.at(req.version, replace(group, members={
            uuid: host for uuid, host in group.members.items() if uuid not in departed
        }))
        for group in groups
    ]  # fmt: skip


def _own(req: Request, tx: Connection) -> Group:
    """The group of the path, if the caller may see it. Raises ServerGroupNotFound."""
    group = rows.get(tx, req.params["id"])
    if group.project_id != req.ctx.project_id and not req.ctx.is_admin:
        raise ServerGroupNotFound(group_uuid=req.params["id"])
    return group


_VIEW: View[Group] = View(
    Field("id", lambda group: group.uuid),
    Field("name", lambda group: group.name),
    Field("members", lambda group: list(group.members)),
    Field("project_id", lambda group: group.project_id, since=(2, 13)),
    Field("user_id", lambda group: group.user_id, since=(2, 13)),
    Field("policies", lambda group: [group.policy], until=(2, 63)),
    Field("metadata", lambda _group: {}, until=(2, 63)),
    Field("policy", lambda group: group.policy, since=(2, 64)),
    Field("rules", lambda group: dict(group.rules), since=(2, 64)),
)
