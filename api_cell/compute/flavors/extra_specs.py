"""Extra specs: what a flavor requires of scheduler and driver beyond its sizes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from api_cell.compute import behaviours
from api_cell.compute.flavors import extra_spec_rules
from api_cell.compute.flavors.handlers import seen_by
from api_cell.edge.route import Request, Response
from cell_service.errors import FlavorExtraSpecNotFound, Invalid
from mapping_db import flavors as rows


def index(req: Request) -> Response:
    """200 {"extra_specs": {...}}."""
    return Response(200, {"extra_specs": _specs(req)})


def show(req: Request) -> Response:
    """200 {key: value}."""
    key, specs = req.params["id"], _specs(req)
    if key not in specs:
        raise FlavorExtraSpecNotFound(flavor_id=req.params["flavor_id"], key=key)
    return Response(200, {key: specs[key]})


def create(req: Request) -> Response:
    """200 {"extra_specs": {...}}, those of the body; others stay."""
    specs = _checked(req, req.body["extra_specs"])
    _put(req, specs)
    return Response(200, {"extra_specs": specs})


def update(req: Request) -> Response:
    """200 {key: value}; 400 when the key in the body is not that of the path."""
    key = req.params["id"]
    if key not in req.body:
        raise Invalid(reason="Request body and URI mismatch")
    specs = _checked(req, req.body)
    _put(req, specs)
    return Response(200, specs)


def delete(req: Request) -> Response:
    """200 without a body."""
    now = req.cloud.clock.now()
    req.cloud.db.run(lambda tx: rows.remove_extra_spec(tx, req.params["flavor_id"], req.params["id"], now))
    return Response(200)


def _specs(req: Request) -> Mapping[str, str]:
    with req.cloud.db.connect() as tx:
        return rows.get(tx, req.params["flavor_id"], seen_by(req)).extra_specs


def _checked(req: Request, given: Mapping[str, Any]) -> dict[str, str]:
    specs = {name: str(value) for name, value in given.items()}
    if behaviours.EXTRA_SPECS_ARE_CHECKED.at(req.version):
        extra_spec_rules.check(specs)
    return specs


def _put(req: Request, specs: Mapping[str, str]) -> None:
    now = req.cloud.clock.now()
    req.cloud.db.run(lambda tx: rows.put_extra_specs(tx, req.params["flavor_id"], specs, now))
