"""Names of what is counted."""

from __future__ import annotations

import re

from api_cell.edge.route import Request, Response
from api_cell.placement.answer import dated
from cell_service.errors import Invalid
from mapping_db.placement import resource_classes

_CUSTOM = re.compile(r"^CUSTOM_[A-Z0-9_]+$")


def _view(name: str) -> dict[str, object]:
    return {"name": name, "links": [{"rel": "self", "href": f"/resource_classes/{name}"}]}


def index(req: Request) -> Response:
    with req.cloud.db.connect() as tx:
        found = resource_classes.names(tx)
    return dated(req, {"resource_classes": [_view(name) for name in found]})


def create(req: Request) -> Response:
    """201 with a Location; 409 when it exists."""
    name = req.body["name"]
    req.cloud.db.run(lambda tx: resource_classes.add(tx, name))
    return _located(req, name, 201)


def show(req: Request) -> Response:
    name = req.params["name"]
    with req.cloud.db.connect() as tx:
        resource_classes.find(tx, name)
    return dated(req, _view(name))


def rename(req: Request) -> Response:
    """200: the class has another name."""
    name, new_name = req.params["name"], req.body["name"]
    req.cloud.db.run(lambda tx: resource_classes.rename(tx, name, new_name))
    return Response(200, _view(new_name))


def ensure(req: Request) -> Response:
    """201: the class exists from now on; 204 when it did before."""
    name = req.params["name"]
    if not _CUSTOM.match(name) or len(name) > 255:
        rule = "maxLength" if len(name) > 255 else "pattern"
        raise Invalid(
            reason=f"JSON does not validate: the resource class {name!r} must begin with CUSTOM_, and have at most 255 "
            f"characters, of A-Z, 0-9 and _. Failed validating '{rule}' in schema"
        )
    with req.cloud.db.begin() as tx:
        new = bool(resource_classes.unknown(tx, [name]))
        if new:
            resource_classes.add(tx, name)
    return _located(req, name, 201 if new else 204)


def delete(req: Request) -> Response:
    """204; 400 for a standard class, 409 while there is inventory of it."""
    req.cloud.db.run(lambda tx: resource_classes.remove(tx, req.params["name"]))
    return Response(204)


def _located(req: Request, name: str, status: int) -> Response:
    return Response(status, None, {"Location": f"{req.base_url}/resource_classes/{name}"})
