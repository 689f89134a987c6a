"""Quota sets: what a project, or one user in it, may have and has."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from api_cell.compute.quota_views import detail_view, limits_view, shown_in_sets
from api_cell.edge.route import Request, Response
from api_cell.edge.shapes import is_true
from cell_service.errors import Invalid
from mapping_db import quotas


def show(req: Request) -> Response:
    """200 {"quota_set": {"id", name: limit, ...}}."""
    req.demand("os_compute_api:os-quota-sets:show", {"project_id": req.params["id"]})
    with req.cloud.db.connect() as tx:
        limits = _limits(req, tx, req.one("user_id"))
    return Response(200, {"quota_set": {"id": req.params["id"], **limits_view(limits, shown_in_sets(req.version))}})


def detail(req: Request) -> Response:
    """200 {"quota_set": {"id", name: {"limit", "in_use", "reserved"}, ...}}."""
    req.demand("os_compute_api:os-quota-sets:detail", {"project_id": req.params["id"]})
    user_id = req.one("user_id")
    with req.cloud.db.connect() as tx:
        limits = _limits(req, tx, user_id)
        usage = quotas.usage_of(tx, req.params["id"], user_id or quotas.PROJECT)
    view = detail_view(limits, usage, shown_in_sets(req.version))
    return Response(200, {"quota_set": {"id": req.params["id"], **view}})


def defaults(req: Request) -> Response:
    """200 {"quota_set": {"id", name: limit, ...}}: what holds for a project that has no limits of its own."""
    with req.cloud.db.connect() as tx:
        limits = quotas.class_limits_of(tx, quotas.DEFAULT_CLASS, _configured(req))
    return Response(200, {"quota_set": {"id": req.params["id"], **limits_view(limits, shown_in_sets(req.version))}})


def update(req: Request) -> Response:
    """200 {"quota_set": {name: limit, ...}}; 400 for a limit below what is in use, unless forced."""
    given = dict(req.body["quota_set"])
    forced = is_true(given.pop("force", False))
    user_id = req.one("user_id")
    wanted = {name: int(value) for name, value in given.items() if name in _configured(req)}
    project_id = req.params["id"]

    def work(tx: Connection) -> Mapping[str, int]:
        if not forced:
            _check(req, tx, wanted, user_id)
        if user_id:
            quotas.set_user_limits(tx, project_id, user_id, wanted)
        else:
            quotas.set_limits(tx, project_id, wanted)
        return _limits(req, tx, user_id)

    limits = req.cloud.db.run(work)
    return Response(200, {"quota_set": limits_view(limits, shown_in_sets(req.version))})


def delete(req: Request) -> Response:
    """202: the defaults hold again."""
    user_id = req.one("user_id")
    project_id = req.params["id"]
    if user_id:
        req.cloud.db.run(lambda tx: quotas.delete_user_limits(tx, project_id, user_id))
    else:
        req.cloud.db.run(lambda tx: quotas.delete_limits(tx, project_id))
    return Response(202)


def _configured(req: Request) -> dict[str, int]:
    limits: dict[str, int] = req.services.settings.quota.limits()
    return limits


def _limits(req: Request, tx: Connection, user_id: str | None) -> dict[str, int]:
    if user_id:
        return quotas.user_limits_of(tx, req.params["id"], user_id, _configured(req))
    return quotas.limits_of(tx, req.params["id"], _configured(req))


def _check(req: Request, tx: Connection, wanted: Mapping[str, int], user_id: str | None) -> None:
    """Raises Invalid for a limit below what is in use, or a user's above the project's."""
    project_id = req.params["id"]
    used = quotas.usage_of(tx, project_id, user_id or quotas.PROJECT)
    ceilings = quotas.limits_of(tx, project_id, _configured(req)) if user_id else {}
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
