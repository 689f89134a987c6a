"""Quota sets: limits and use of a project, or of one user in it."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from api_cell import quota_check
from api_cell.compute.quotas.views import detail_view, limits_view, shown_in_sets
from api_cell.edge.route import Request, Response
from api_cell.edge.shapes import is_true
from cell_service.errors import Invalid
from mapping_db import quotas


def show(req: Request) -> Response:
    """200 {"quota_set": {"id", name: limit, ...}}."""
    req.demand("os_compute_api:os-quota-sets:show", {"project_id": req.params["id"]})
    view = limits_view(_limits(req), shown_in_sets(req.version))
    return Response(200, {"quota_set": {"id": req.params["id"], **view}})


def detail(req: Request) -> Response:
    """200 {"quota_set": {"id", name: {"limit", "in_use", "reserved"}, ...}}."""
    req.demand("os_compute_api:os-quota-sets:detail", {"project_id": req.params["id"]})
    most = _limits(req)
    usage = quota_check.usage_of(req.cloud, req.services, req.params["id"], req.one("user_id") or quotas.PROJECT)
    view = detail_view(most, usage, shown_in_sets(req.version))
    return Response(200, {"quota_set": {"id": req.params["id"], **view}})


def defaults(req: Request) -> Response:
    """200 {"quota_set": {"id", name: limit, ...}}: the limits of a project that has none of its own."""
    view = limits_view(quota_check.default_limits(req.cloud, req.services, req.ctx), shown_in_sets(req.version))
    return Response(200, {"quota_set": {"id": req.params["id"], **view}})


def update(req: Request) -> Response:
    """200 {"quota_set": {name: limit, ...}}; 400 for a limit below what is in use, unless forced. Where the identity
    service keeps the limits, or there are none, nothing changes."""
    given = dict(req.body["quota_set"])
    forced = is_true(given.pop("force", False))
    user_id = req.one("user_id")
    wanted = {name: int(value) for name, value in given.items() if name in req.services.settings.quota.limits()}
    project_id = req.params["id"]
    ceilings = quota_check.project_limits(req.cloud, req.services, req.ctx, project_id) if user_id else {}

    def work(tx: Connection) -> None:
        if not forced:
            _check(tx, project_id, user_id, wanted, ceilings)
        if user_id:
            quotas.set_user_limits(tx, project_id, user_id, wanted)
        else:
            quotas.set_limits(tx, project_id, wanted)

    if quota_check.are_recorded(req.services):
        req.cloud.db.run(work)
    return Response(200, {"quota_set": limits_view(_limits(req), shown_in_sets(req.version))})


def delete(req: Request) -> Response:
    """202: the defaults apply again. Where limits are not kept here, nothing changes."""
    user_id = req.one("user_id")
    project_id = req.params["id"]
    if not quota_check.are_recorded(req.services):
        return Response(202)
    if user_id:
        req.cloud.db.run(lambda tx: quotas.delete_user_limits(tx, project_id, user_id))
    else:
        req.cloud.db.run(lambda tx: quotas.delete_limits(tx, project_id))
    return Response(202)


def _limits(req: Request) -> dict[str, int]:
    """The limits of the user that the query names, else of the project."""
    user_id = req.one("user_id")
    if user_id:
        return quota_check.user_limits(req.cloud, req.services, req.ctx, req.params["id"], user_id)
    return quota_check.project_limits(req.cloud, req.services, req.ctx, req.params["id"])


def _check(
    tx: Connection, project_id: str, user_id: str | None, wanted: Mapping[str, int], ceilings: Mapping[str, int]
) -> None:
    """Raises Invalid for a limit below what is in use, or a user's above the project's."""
    used = quotas.usage_of(tx, project_id, user_id or quotas.PROJECT)
    for name, limit in wanted.items():
        if _endless(limit) < used.get(name, 0):
            raise Invalid(
                reason=f"Quota limit {limit} for {name} must be greater than or equal to already used and "
                f"reserved {used[name]}."
            )
        if _endless(limit) > _endless(ceilings.get(name, -1)):
            raise Invalid(reason=f"Quota limit {limit} for {name} must be less than or equal to {ceilings[name]}.")


def _endless(limit: int) -> float:
    return float("inf") if limit == -1 else limit
