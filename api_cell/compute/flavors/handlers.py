"""Flavors: list, show, create, change, delete."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from api_cell.compute import behaviours
from api_cell.edge.links import next_link, page_marker, page_size, resource_links
from api_cell.edge.route import Request, Response
from api_cell.edge.shapes import MAX_INT, is_true
from api_cell.edge.versioned import Field, Read, View
from api_cell.servers.lists.query import boolean
from cell_service.errors import Invalid
from cell_service.model.instance import Flavor
from mapping_db import flavors as rows

EXTRA_SPECS_RULE = "os_compute_api:os-flavor-extra-specs:index"


def index(req: Request) -> Response:
    """200 {"flavors": [{"id", "name", "links"}, ...]}."""
    return _page(req, "/flavors", [_brief(req, flavor) for flavor in _wanted(req)])


def detail(req: Request) -> Response:
    """200 {"flavors": [{...}, ...]}."""
    with_specs = _shows_specs(req)
    return _page(req, "/flavors/detail", [flavor_view(req, flavor, with_specs) for flavor in _wanted(req)])


def show(req: Request) -> Response:
    """200 {"flavor": {...}}; 404 also for a private flavor that the project may not use."""
    with req.cloud.db.connect() as tx:
        flavor = rows.get(tx, req.params["id"], seen_by(req))
    return Response(200, {"flavor": _shown(req, flavor)})


def create(req: Request) -> Response:
    """200 {"flavor": {...}}; 409 when its name or id is taken."""
    flavor = _flavor_from(req.body["flavor"])
    now = req.cloud.clock.now()
    req.cloud.db.run(lambda tx: rows.insert_flavor(tx, flavor, now))
    return Response(200, {"flavor": _shown(req, flavor)})


def update(req: Request) -> Response:
    """200 {"flavor": {...}} with its new description."""
    flavorid, now = req.params["id"], req.cloud.clock.now()

    def work(tx: Connection) -> Flavor:
        rows.set_description(tx, flavorid, req.body["flavor"]["description"], now)
        return rows.get(tx, flavorid)

    return Response(200, {"flavor": _shown(req, req.cloud.db.run(work))})


def delete(req: Request) -> Response:
    """202; instances made of it keep their copy."""
    req.cloud.db.run(lambda tx: rows.remove(tx, req.params["id"]))
    return Response(202)


def seen_by(req: Request) -> str | None:
    """The project whose flavors the caller may see; None for administrators: all of them."""
    return None if req.ctx.is_admin else req.ctx.project_id


def flavor_view(req: Request, flavor: Flavor, with_specs: bool) -> dict[str, Any]:
    """A flavor's document at the request's version."""
    view = _WHOLE.at(req.version, flavor) | {"links": resource_links(req, f"/flavors/{flavor.flavorid}")}
    if with_specs:
        view["extra_specs"] = dict(flavor.extra_specs)
    return view


def _shown(req: Request, flavor: Flavor) -> dict[str, Any]:
    return flavor_view(req, flavor, _shows_specs(req))


def _shows_specs(req: Request) -> bool:
    return behaviours.FLAVORS_SHOW_EXTRA_SPECS.at(req.version) and req.may(EXTRA_SPECS_RULE)


def _brief(req: Request, flavor: Flavor) -> dict[str, Any]:
    return _BRIEF.at(req.version, flavor) | {"links": resource_links(req, f"/flavors/{flavor.flavorid}")}


_NAMED: tuple[Field[Read[Flavor]], ...] = (
    Field("id", lambda flavor: flavor.flavorid),
    Field("name", lambda flavor: flavor.name),
    Field("description", lambda flavor: flavor.description, since=(2, 55)),
)
_BRIEF: View[Flavor] = View(*_NAMED)
_WHOLE: View[Flavor] = View(
    *_NAMED,
    Field("ram", lambda flavor: flavor.memory_mib),
    Field("disk", lambda flavor: flavor.root_gib),
    Field("swap", lambda flavor: flavor.swap_mib or "", until=(2, 74)),
    Field("swap", lambda flavor: flavor.swap_mib, since=(2, 75)),
    Field("OS-FLV-EXT-DATA:ephemeral", lambda flavor: flavor.ephemeral_gib),
    Field("vcpus", lambda flavor: flavor.vcpus),
    Field("os-flavor-access:is_public", lambda flavor: flavor.is_public),
    Field("OS-FLV-DISABLED:disabled", lambda flavor: flavor.disabled, until=(2, 101)),
    Field("rxtx_factor", lambda flavor: flavor.rxtx_factor, until=(2, 101)),
)


def _page(req: Request, path: str, views: list[dict[str, Any]]) -> Response:
    body: dict[str, Any] = {"flavors": views}
    if views and len(views) == page_size(req, req.services.settings.api.max_limit):
        body["flavors_links"] = next_link(req, path, views[-1]["id"])
    return Response(200, body)


def _wanted(req: Request) -> list[Flavor]:
    page = rows.FlavorQuery(
        seen_by=seen_by(req),
        own_project=req.ctx.project_id,
        is_public=_is_public(req.one("is_public")) if req.ctx.is_admin else True,
        min_ram_mib=_whole(req, "minRam"),
        min_disk_gib=_whole(req, "minDisk"),
        name=req.one("name") if behaviours.FLAVORS_ARE_FOUND_BY_NAME.at(req.version) else None,
        sort_key=req.one("sort_key") or "flavorid",
        descending=req.one("sort_dir") == "desc",
        marker=page_marker(req),
        limit=page_size(req, req.services.settings.api.max_limit),
    )
    with req.cloud.db.connect() as tx:
        return rows.page(tx, page)


def _is_public(text: str | None) -> bool | None:
    """Whether the query wants public flavors; None (both kinds) only for the word "none"."""
    if text is None:
        return True
    if text.strip().lower() == "none":
        return None
    try:
        return boolean(text or "?", "is_public")
    except Invalid:
        raise Invalid(reason=f"Invalid is_public filter [{text}]") from None


def _whole(req: Request, name: str) -> int:
    text = req.one(name)
    try:
        return min(int(text), MAX_INT) if text is not None else 0
    except ValueError as error:
        raise Invalid(reason=f"Invalid {name} filter [{text}]") from error


def _flavor_from(body: dict[str, Any]) -> Flavor:
    flavorid = body.get("id")
    return Flavor(
        flavorid=str(uuid4()) if flavorid in (None, "auto") else str(flavorid),
        name=body["name"],
        vcpus=int(body["vcpus"]),
        memory_mib=int(body["ram"]),
        root_gib=int(body["disk"]),
        ephemeral_gib=int(body.get("OS-FLV-EXT-DATA:ephemeral", 0)),
        swap_mib=int(body.get("swap", 0)),
        rxtx_factor=float(body.get("rxtx_factor", 1.0)),
        is_public=is_true(body.get("os-flavor-access:is_public", True)),
        description=body.get("description"),
    )
