"""Quota class sets: the class `default` changes what holds for every project without limits of its own."""

from __future__ import annotations

from sqlalchemy import Connection

from api_cell.compute.quota_views import limits_view, shown_in_classes
from api_cell.edge.route import Request, Response
from mapping_db import quotas


def show(req: Request) -> Response:
    """200 {"quota_class_set": {"id", name: limit, ...}}."""
    name = req.params["id"]
    with req.cloud.db.connect() as tx:
        limits = quotas.class_limits_of(tx, name, req.services.settings.quota.limits())
    return Response(200, {"quota_class_set": {"id": name, **limits_view(limits, shown_in_classes(req.version))}})


def update(req: Request) -> Response:
    """200 {"quota_class_set": {name: limit, ...}}."""
    configured = req.services.settings.quota.limits()
    wanted = {name: int(value) for name, value in req.body["quota_class_set"].items() if name in configured}

    def work(tx: Connection) -> dict[str, int]:
        quotas.set_class_limits(tx, req.params["id"], wanted)
        return quotas.class_limits_of(tx, req.params["id"], configured)

    limits = req.cloud.db.run(work)
    return Response(200, {"quota_class_set": limits_view(limits, shown_in_classes(req.version))})
