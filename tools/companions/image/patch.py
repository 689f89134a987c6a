"""Changes of an image's record, as JSON patches (media type application/openstack-images-v2.1-json-patch)."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from cell_service.errors import Conflict, Invalid
from tools.companions.image import views
from tools.companions.route import CompanionRequest

NULLABLE = ("name", "disk_format", "container_format", "owner")


def patched(record: dict[str, Any], req: CompanionRequest) -> dict[str, Any]:
    """The columns that the patch in the request's body changes. Raises Invalid, Conflict, Forbidden."""
    if not isinstance(req.body, list):
        raise Invalid(reason="The body must be a list of changes.")
    columns: dict[str, Any] = {}
    properties = dict(record["doc"].get("properties", {}))
    tags = list(record["doc"].get("tags", ()))
    for change in req.body:
        operation, name, value = _read(change)
        if operation == "remove":
            if name in properties:
                del properties[name]
            elif name in views.SETTABLE or name in views.READ_ONLY:
                raise Invalid(reason=f"Property {name} may not be removed.", status=403, kind="Forbidden")
            else:
                raise Conflict(reason=f"Property {name} does not exist.")
            continue
        views.check_field(name, value)
        if name == "tags":
            tags = value
        elif name in views.SETTABLE:
            _check_rights(record, req, name, value)
            columns[name] = value
        elif operation == "replace" and name not in properties:
            raise Conflict(reason=f"Property {name} does not exist.")
        else:
            properties[name] = value
    return columns | {"doc": {"tags": sorted(set(tags)), "properties": properties}}


def _read(change: object) -> tuple[str, str, Any]:
    """Operation, attribute and value; also of the older form {"add": "/name", "value": …}."""
    if not isinstance(change, dict):
        raise Invalid(reason="Every change must be an object.")
    operation, path = change.get("op"), change.get("path")
    if operation is None:
        operation = next((word for word in ("add", "replace", "remove") if word in change), None)
        path = change.get(operation) if operation else None
    if operation not in ("add", "replace", "remove") or not isinstance(path, str) or not path.startswith("/"):
        raise Invalid(reason="Every change has an op (add, replace, remove) and a path.")
    name = unquote(path[1:]).replace("~1", "/").replace("~0", "~")
    if not name or "/" in path[1:]:
        raise Invalid(reason=f"Invalid JSON pointer: {path}")
    if operation != "remove" and "value" not in change:
        raise Invalid(reason=f"The change of {name} has no value.")
    return operation, name, change.get("value")


def _check_rights(record: dict[str, Any], req: CompanionRequest, name: str, value: object) -> None:
    if (name == "visibility" and value == "public") or (name == "owner" and value != record["owner"]):
        req.demand_admin()
    if name in ("disk_format", "container_format") and record["status"] != "queued" and value != record[name]:
        raise Invalid(reason=f"Attribute {name} can be changed only before data is there.", status=403)
