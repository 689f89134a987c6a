"""A server's metadata, tags and addresses."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import Connection

from api_cell import quota_check
from api_cell.compute.servers import views
from api_cell.compute.servers.recording import or_recorded
from api_cell.edge.route import Request, Response
from api_cell.servers import act, find, metadata, recorded
from api_cell.servers.metadata import MetadataChange
from cell_service.db import instances
from cell_service.errors import Invalid, MetadataItemNotFound, NetworkNotFound, TagNotFound
from cell_service.model.instance import Instance
from mapping_db.cells.registry import Cell

MOST_TAGS = 50
_TAG = re.compile(r"[^,/]{1,60}")


def metadata_index(req: Request) -> Response:
    """200 {"metadata": {…}}"""
    return Response(200, {"metadata": _visible_instance(req, "os_compute_api:server-metadata:index").metadata})


def metadata_show(req: Request) -> Response:
    """200 {"meta": {key: value}}"""
    metadata = _visible_instance(req, "os_compute_api:server-metadata:show").metadata
    key = req.params["id"]
    if key not in metadata:
        raise MetadataItemNotFound()
    return Response(200, {"meta": {key: metadata[key]}})


def metadata_add(req: Request) -> Response:
    """200 {"metadata": {…}}: these items are set, others stay."""
    rule, given = "os_compute_api:server-metadata:create", req.body["metadata"]
    return _changed(req, MetadataChange(rule, given), lambda after: Response(200, {"metadata": after}))


def metadata_replace(req: Request) -> Response:
    """200 {"metadata": {…}}: these items and no others."""
    rule, given = "os_compute_api:server-metadata:update_all", req.body["metadata"]
    return _changed(req, MetadataChange(rule, given, only=True), lambda after: Response(200, {"metadata": after}))


def metadata_set(req: Request) -> Response:
    """200 {"meta": {key: value}}"""
    rule, given, key = "os_compute_api:server-metadata:update", req.body["meta"], req.params["id"]
    if key not in given:
        raise Invalid(reason="Request body and URI mismatch")
    return _changed(req, MetadataChange(rule, given), lambda after: Response(200, {"meta": {key: after[key]}}))


def metadata_remove(req: Request) -> Response:
    """204; 404 when there is no such item."""
    wanted = MetadataChange("os_compute_api:server-metadata:delete", removed=req.params["id"])
    return _changed(req, wanted, lambda _after: Response(204))


def tags_index(req: Request) -> Response:
    """200 {"tags": […]}"""
    return Response(200, {"tags": list(_visible_instance(req, "os_compute_api:os-server-tags:index").tags)})


def tag_show(req: Request) -> Response:
    """204 when the server has the tag, else 404."""
    instance = _visible_instance(req, "os_compute_api:os-server-tags:show")
    if req.params["id"] not in instance.tags:
        raise TagNotFound(instance_uuid=instance.uuid, tag=req.params["id"])
    return Response(204)


def tags_replace(req: Request) -> Response:
    """200 {"tags": […]}: these tags and no others."""
    wanted = tuple(dict.fromkeys(req.body["tags"]))
    after = _change_tags(req, "os_compute_api:os-server-tags:update_all", lambda now: wanted)
    return Response(200, {"tags": list(after)})


def tag_add(req: Request) -> Response:
    """201 with a Location; 204 when the server has the tag already."""
    tag, server_id = req.params["id"], req.params["server_id"]
    if not _TAG.fullmatch(tag):
        raise Invalid(reason=f"Tag '{tag}' is invalid. It must have 1 to 60 characters, without ',' and '/'.")
    there: list[bool] = []

    def with_tag(now: tuple[str, ...]) -> tuple[str, ...]:
        there[:] = [tag in now]
        if tag not in now and len(now) >= MOST_TAGS:
            raise Invalid(reason=f"The number of tags exceeded the per-server limit {MOST_TAGS}")
        return now if tag in now else (*now, tag)

    _change_tags(req, "os_compute_api:os-server-tags:update", with_tag)
    if there[0]:
        return Response(204)
    return Response(201, None, {"Location": f"{req.base_url}/servers/{server_id}/tags/{tag}"})


def tag_remove(req: Request) -> Response:
    """204; 404 when the server has no such tag."""
    tag, server_id = req.params["id"], req.params["server_id"]

    def without(now: tuple[str, ...]) -> tuple[str, ...]:
        if tag not in now:
            raise TagNotFound(instance_uuid=server_id, tag=tag)
        return tuple(each for each in now if each != tag)

    _change_tags(req, "os_compute_api:os-server-tags:delete", without)
    return Response(204)


def tags_remove(req: Request) -> Response:
    """204: the server has no tags."""
    _change_tags(req, "os_compute_api:os-server-tags:delete_all", lambda now: ())
    return Response(204)


def addresses_index(req: Request) -> Response:
    """200 {"addresses": {network: [{addr, version}]}}"""
    instance = _visible_instance(req, "os_compute_api:ips:index")
    return Response(200, {"addresses": views.addresses(instance.network_info, details=False)})


def addresses_show(req: Request) -> Response:
    """200 {network: [{addr, version}]}; 404 when the server is not on that network."""
    found = views.addresses(_visible_instance(req, "os_compute_api:ips:show").network_info, details=False)
    label = req.params["id"]
    if label not in found:
        raise NetworkNotFound(network_id=label)
    return Response(200, {label: found[label]})


def _visible_instance(req: Request, rule: str) -> Instance:
    instance = find.server(req.cloud, req.ctx, req.params["server_id"]).instance
    req.demand(rule, find.target(instance))
    return instance


def _changed(req: Request, wanted: MetadataChange, answer: Callable[[dict[str, str]], Response]) -> Response:
    server_id = req.params["server_id"]
    most = quota_check.item_limits(req.cloud, req.services, req.ctx)["metadata_items"]
    return or_recorded(
        req,
        lambda: answer(metadata.change(req.cloud, req.caller, server_id, wanted, most)),
        lambda: recorded.record_metadata(req.cloud, req.caller, server_id, wanted, most),
    )


def _change_tags(req: Request, rule: str, change: Callable[[tuple[str, ...]], tuple[str, ...]]) -> tuple[str, ...]:
    server_id = req.params["server_id"]

    def changed(instance: Instance) -> tuple[str, ...]:
        _demand_mine(req, instance, rule)
        return change(instance.tags)

    def work(tx: Connection, cell: Cell) -> tuple[str, ...]:
        after = changed(find.to_change(req.cloud, req.ctx, tx, cell, server_id))
        instances.set_tags(tx, server_id, after, req.cloud.clock.now())
        return after

    def early(instance: Instance) -> tuple[Instance, tuple[str, ...]]:
        after = changed(instance)
        return replace(instance, tags=after), after

    return find.change(req.cloud, req.ctx, server_id, work, early)


def _demand_mine(req: Request, instance: Instance, rule: str) -> None:
    req.demand(rule, find.target(instance))
    act.demand_unlocked(req.ctx, instance)
