"""The Placement API's table."""

from __future__ import annotations

from api_cell.edge.route import ByVersion, Handler, Request, Response, Route, Schema
from api_cell.edge.versions import shown
from api_cell.placement import (
    allocations,
    candidates,
    inventories,
    providers,
    resource_classes,
    schemas,
    traits,
)
from api_cell.placement.answer import dated
from api_cell.placement.history import NEWEST, OLDEST


def home(req: Request) -> Response:
    """The version document, without a token."""
    version = {
        "id": "v1.0",
        "min_version": shown(OLDEST),
        "max_version": shown(NEWEST),
        "status": "CURRENT",
        "links": [{"rel": "self", "href": ""}],
    }
    return dated(req, {"versions": [version]})


def _route(
    method: str,
    path: str,
    handler: Handler,
    rule: str | None,
    since: int = 0,
    body: Schema | ByVersion | None = None,
    until: int = NEWEST[1],
    method_alone_is_new: bool = False,
) -> Route:
    return Route(
        method,
        path,
        handler,
        rule=f"placement:{rule}" if rule else None,
        body=body,
        min_version=(1, since),
        max_version=(1, until),
        method_alone_is_new=method_alone_is_new,
    )


_ONE = "/resource_providers/{uuid}"
_CLASS = f"{_ONE}/inventories/{{resource_class}}"
_OWN = "resource_providers"

ROUTES: tuple[Route, ...] = (
    Route("GET", "/", home, min_version=OLDEST, max_version=NEWEST, open=True),
    _route("GET", "/resource_classes", resource_classes.index, "resource_classes:list", 2),
    _route("POST", "/resource_classes", resource_classes.create, "resource_classes:create", 2,
           schemas.RESOURCE_CLASS),
    _route("GET", "/resource_classes/{name}", resource_classes.show, "resource_classes:show", 2),
    _route("PUT", "/resource_classes/{name}", resource_classes.rename, "resource_classes:update", 2,
           schemas.RESOURCE_CLASS, until=6),
    _route("PUT", "/resource_classes/{name}", resource_classes.ensure, "resource_classes:update", 7),
    _route("DELETE", "/resource_classes/{name}", resource_classes.delete, "resource_classes:delete", 2),
    _route("GET", "/resource_providers", providers.index, f"{_OWN}:list"),
    _route("POST", "/resource_providers", providers.create, f"{_OWN}:create", 0, schemas.CREATE_PROVIDER),
    _route("GET", _ONE, providers.show, f"{_OWN}:show"),
    _route("PUT", _ONE, providers.update, f"{_OWN}:update", 0, schemas.UPDATE_PROVIDER),
    _route("DELETE", _ONE, providers.delete, f"{_OWN}:delete"),
    _route("GET", f"{_ONE}/inventories", inventories.index, f"{_OWN}:inventories:list"),
    _route("POST", f"{_ONE}/inventories", inventories.create, f"{_OWN}:inventories:create", 0,
           schemas.CREATE_INVENTORY),
    _route("PUT", f"{_ONE}/inventories", inventories.replace, f"{_OWN}:inventories:update", 0,
           schemas.PUT_INVENTORIES),
    _route("DELETE", f"{_ONE}/inventories", inventories.delete_all, f"{_OWN}:inventories:delete", 5,
           method_alone_is_new=True),
    _route("GET", _CLASS, inventories.show, f"{_OWN}:inventories:show"),
    _route("PUT", _CLASS, inventories.update, f"{_OWN}:inventories:update", 0, schemas.UPDATE_INVENTORY),
    _route("DELETE", _CLASS, inventories.delete, f"{_OWN}:inventories:delete"),
    _route("GET", f"{_ONE}/usages", inventories.show_usages, f"{_OWN}:usages"),
    _route("GET", f"{_ONE}/aggregates", providers.show_aggregates, f"{_OWN}:aggregates:list", 1),
    _route("PUT", f"{_ONE}/aggregates", providers.replace_aggregates, f"{_OWN}:aggregates:update", 1,
           schemas.REPLACE_AGGREGATES, until=18),
    _route("PUT", f"{_ONE}/aggregates", providers.put_aggregates, f"{_OWN}:aggregates:update", 19,
           schemas.PUT_AGGREGATES),
    _route("GET", f"{_ONE}/allocations", allocations.show_for_provider, f"{_OWN}:allocations:list"),
    _route("GET", f"{_ONE}/traits", traits.show_for_provider, f"{_OWN}:traits:list", 6),
    _route("PUT", f"{_ONE}/traits", traits.put_for_provider, f"{_OWN}:traits:update", 6, schemas.PUT_TRAITS),
    _route("DELETE", f"{_ONE}/traits", traits.delete_for_provider, f"{_OWN}:traits:delete", 6),
    _route("POST", "/allocations", allocations.update_many, "allocations:manage", 13, schemas.POST_ALLOCATIONS),
    _route("GET", "/allocations/{consumer_uuid}", allocations.show, "allocations:list"),
    _route("PUT", "/allocations/{consumer_uuid}", allocations.update, "allocations:update", 0,
           schemas.PUT_ALLOCATIONS),
    _route("DELETE", "/allocations/{consumer_uuid}", allocations.delete, "allocations:delete"),
    _route("GET", "/allocation_candidates", candidates.index, "allocation_candidates:list", 10),
    _route("GET", "/traits", traits.index, "traits:list", 6),
    _route("GET", "/traits/{name}", traits.show, "traits:show", 6),
    _route("PUT", "/traits/{name}", traits.update, "traits:update", 6),
    _route("DELETE", "/traits/{name}", traits.delete, "traits:delete", 6),
    _route("GET", "/usages", candidates.show_usages, None, 9, until=37),
    _route("GET", "/usages", candidates.show_usages_by_type, None, 38),
    _route("POST", "/reshaper", allocations.reshape, "reshaper:reshape", 30, schemas.RESHAPE),
)  # fmt: skip
