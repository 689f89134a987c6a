"""Quota class sets: the class `default` has the limits of every project without limits of its own."""

from __future__ import annotations

from api_cell import quota_check
from api_cell.compute.quotas.views import limits_view, shown_in_classes
from api_cell.edge.route import Request, Response
from mapping_db import quotas


def show(req: Request) -> Response:
    """200 {"quota_class_set": {"id", name: limit, ...}}."""
    name = req.params["id"]
    view = limits_view(
        quota_check.default_limits(req.cloud, req.services, req.ctx, name), shown_in_classes(req.version)
    )
    return Response(200, {"quota_class_set": {"id": name, **view}})


def update(req: Request) -> Response:
    """200 {"quota_class_set": {name: limit, ...}}. Where the identity service keeps the limits, or there are none,
    nothing changes."""
    configured, name = req.services.settings.quota.limits(), req.params["id"]
    wanted = {each: int(value) for each, value in req.body["quota_class_set"].items() if each in configured}
    if quota_check.are_recorded(req.services):
        req.cloud.db.run(lambda tx: quotas.set_class_limits(tx, name, wanted))
    return Response(
        200,
        {
            "quota_class_set": limits_view(
                quota_check.default_limits(req.cloud, req.services, req.ctx, name), shown_in_classes(req.version)
            )
        },
    )
