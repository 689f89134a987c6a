"""Moving servers to other hosts: resize, migrate, live migrate, evacuate; confirming and reverting resizes."""

from __future__ import annotations

from typing import Any

from api_cell import quota_check
from api_cell.compute import behaviours
from api_cell.edge.route import Request, Response
from api_cell.edge.shapes import is_true
from api_cell.servers import act, delete, find, hardware
from api_cell.servers.create.server_request import new_password
from api_cell.servers.find import LocatedServer
from api_cell.servers.moves import kinds, request
from api_cell.servers.moves.quota import GrowthQuota
from cell_service.db import compute_nodes, services
from cell_service.errors import (
    ComputeHostNotFound,
    Conflict,
    FlavorNotFound,
    HostMappingNotFound,
    InstanceNotReady,
    Invalid,
    ServiceNotFound,
)
from cell_service.model import request_groups
from cell_service.model.ability import Ability
from cell_service.model.instance import Flavor, Instance
from cell_service.model.move import MovePhase, MovePlan
from mapping_db import class_usage, flavors, host_mappings
from mapping_db.cells.registry import Cell

RESIZE_RULE = "os_compute_api:servers:resize"
CROSS_CELL_RULE = "compute:servers:resize:cross_cell"
MIGRATE_RULE = "os_compute_api:os-migrate-server:migrate"
LIVE_RULE = "os_compute_api:os-migrate-server:migrate_live"
EVACUATE_RULE = "os_compute_api:os-evacuate"


def resize(req: Request) -> Response:
    """202: the server will have another flavor, on another host. 400 for the flavor it has already, 409 while its host
    is down."""
    found, cell = _found(req, RESIZE_RULE)
    instance, wanted = found.instance, str(req.body["resize"]["flavorRef"])
    with req.cloud.db.connect() as tx:
        try:
            flavor = flavors.get(tx, wanted, None if req.ctx.is_admin else req.ctx.project_id)
        except FlavorNotFound:
            raise Invalid(reason="Unable to locate requested flavor.") from None
        _check_resize(instance, flavor)
    _demand_up(req, cell, instance)
    most, of_user = quota_check.project_and_user_limits(
        req.cloud, req.services, req.ctx, instance.project_id, instance.user_id
    )
    classes = class_usage.of_flavor(flavor, volume_backed=False)
    most = quota_check.server_limits(req.services, req.ctx, instance.project_id, most, classes)
    quota = GrowthQuota(most, of_user, quota_check.counts_classes(req.services))
    disk_config = req.body["resize"].get("OS-DCF:diskConfig")
    plan = MovePlan(
        new_flavor=flavor,
        target_host=_host_to_stay_on(req, cell, instance),
        cross_cell=_may_cross(req),
        auto_disk_config=None if disk_config is None else disk_config == "AUTO",
    )
    _move(req, instance, cell, kinds.RESIZE, plan, quota)
    return Response(202)


def confirm(req: Request) -> Response:
    """204: the resize is final, what the old host has is removed."""
    found, _cell = _found(req, "os_compute_api:servers:confirm_resize")
    request.conclude(req.cloud, req.ctx, req.services.superconductor, found.instance, MovePhase.CONFIRMING)
    return Response(204)


def revert(req: Request) -> Response:
    """202: a revert of the resize was accepted."""
    found, _cell = _found(req, "os_compute_api:servers:revert_resize")
    request.conclude(req.cloud, req.ctx, req.services.superconductor, found.instance, MovePhase.REVERTING)
    return Response(202)


def migrate(req: Request) -> Response:
    """202: the server will move to another host, off; to the host that is named from 2.56 on. 400 for one of a cell to
    which the policy lets nothing cross, 409 while the server's host is down."""
    named = behaviours.MIGRATIONS_NAME_A_HOST.at(req.version)
    host = (req.body["migrate"] or {}).get("host") if named else None
    found, cell = _found(req, MIGRATE_RULE)
    if host is not None:
        req.demand(f"{MIGRATE_RULE}:host", find.target(found.instance))
        target_cell = _check_target(req, host, Invalid)
        if host == found.instance.host:
            raise Invalid(reason="Cannot migrate to the host where the server exists.")
        if target_cell != cell.mapping.id and not _may_cross(req):
            raise Invalid(reason=f"Compute host {host} could not be found.")
    _demand_up(req, cell, found.instance)
    _move(req, found.instance, cell, kinds.COLD_MIGRATION, MovePlan(target_host=host, cross_cell=_may_cross(req)))
    return Response(202)


def live_migrate(req: Request) -> Response:
    """202: the server will move to another host while it runs."""
    body = req.body["os-migrateLive"]
    host = body.get("host")
    found, cell = _found(req, LIVE_RULE)
    if host is not None:
        req.demand(f"{LIVE_RULE}:host", find.target(found.instance))
        _check_target(req, host, Invalid)
        if host == found.instance.host:
            raise Invalid(reason=f"Unable to migrate instance ({found.instance.uuid}) to current host ({host}).")
    if not _is_up(req, cell, found.instance.host):
        raise Invalid(reason=f"Compute service of {found.instance.host} is unavailable at this time.")
    force = is_true(body.get("force", False))
    if force and host is None:
        raise Invalid(reason="Can't force to a non-provided destination")
    plan = MovePlan(target_host=host, force=force, cross_cell=host is not None or _may_cross(req))
    _move(req, found.instance, cell, kinds.LIVE_MIGRATION, plan)
    return Response(202)


def evacuate(req: Request) -> Response:
    """200: the server of a host that is down will be built again on another. 400 while its host is up.

    Below 2.14 the answer has the password, if there is one: {"adminPass": …}.
    """
    body = req.body["evacuate"]
    host, force = body.get("host"), is_true(body.get("force", False))
    found, cell = _found(req, EVACUATE_RULE)
    instance = found.instance
    if force and host is None:
        raise Invalid(reason="Can't force to a non-provided destination")
    if host is not None:
        _check_target(req, host, ComputeHostNotFound)
        if host == instance.host:
            raise Invalid(reason="The target host can't be the same one.")
    if _is_up(req, cell, instance.host):
        raise Invalid(reason=f"Compute service of {instance.host} is still in use.")
    on_shared_storage = is_true(body.get("onSharedStorage", False))
    if on_shared_storage and "adminPass" in body:
        raise Invalid(reason="admin password can't be changed on existing disk")
    password = "" if on_shared_storage else body.get("adminPass") or new_password()
    plan = MovePlan(
        target_host=host,
        force=force,
        on_shared_storage=on_shared_storage,
        cross_cell=host is not None or _may_cross(req),
    )
    _move(req, instance, cell, kinds.EVACUATION, plan, password=password)
    if behaviours.EVACUATIONS_ANSWER_NOTHING.at(req.version):
        return Response(200)
    return Response(200, {"adminPass": password} if req.services.settings.api.enable_instance_password else {})


def _host_to_stay_on(req: Request, cell: Cell, instance: Instance) -> str | None:
    """The server's host, where that can resize its guests but not move them, and resizes may stay on a host."""
    host = instance.host
    if host is None or not req.services.settings.resizes.allow_resize_to_same_host:
        return None
    with cell.db.connect(req.ctx.deadline) as tx:
        moves = compute_nodes.is_able(tx, host, Ability.MOVES)
        return host if not moves and compute_nodes.is_able(tx, host, Ability.RESIZES) else None


def _found(req: Request, rule: str) -> tuple[LocatedServer, Cell]:
    """The server in its cell, on which the caller may do what the rule guards."""
    found = find.server(req.cloud, req.ctx, req.params["id"])
    req.demand(rule, find.target(found.instance))
    act.demand_unlocked(req.ctx, found.instance)
    if found.cell is None or found.instance.host is None:
        raise InstanceNotReady(instance_uuid=found.instance.uuid)
    return found, found.cell


def _move(
    req: Request,
    instance: Instance,
    cell: Cell,
    kind: kinds.MoveDeclaration,
    plan: MovePlan,
    quota: GrowthQuota | None = None,
    password: str = "",
) -> None:
    request.accept(req.cloud, req.ctx, req.services.superconductor, cell, instance, kind, plan, quota, password)


def _check_resize(instance: Instance, flavor: Flavor) -> None:
    if flavor.disabled:
        raise Invalid(reason="Unable to locate requested flavor.")
    if flavor.flavorid == instance.flavor.flavorid:
        raise Invalid(reason="When resizing, instances must change flavor!")
    if instance.image_ref and instance.flavor.root_gib and not flavor.root_gib:
        raise Invalid(reason="Resize to zero disk flavor is not allowed.")
    if not instance.volume_backed and flavor.root_gib < instance.flavor.root_gib:
        raise Invalid(reason="Resize error: Unable to resize disk down.")
    request_groups.check(flavor)
    hardware.check_resize(instance, flavor)


def _check_target(req: Request, host: str, missing: type[Any]) -> int:
    """The id of the host's cell. Raises `missing` when there is no such host."""
    with req.cloud.db.connect() as tx:
        try:
            return host_mappings.get(tx, host).cell_id
        except HostMappingNotFound:
            if missing is Invalid:
                raise Invalid(reason=f"Compute host {host} could not be found.") from None
            raise missing(host=host) from None


def _is_up(req: Request, cell: Cell, host: str | None) -> bool:
    with cell.db.connect(req.ctx.deadline) as tx:
        try:
            service = services.by_host(tx, host or "", services.COMPUTE)
        except ServiceNotFound:
            return False
    return service.is_up(req.cloud.clock.now(), delete.down_after(req.services))


def _demand_up(req: Request, cell: Cell, instance: Instance) -> None:
    """Raises Conflict while the host is down: it can't bring the server off. A server without a host is refused for its
    state."""
    if instance.host is not None and not _is_up(req, cell, instance.host):
        raise Conflict(reason="Service is unavailable at this time.")


def _may_cross(req: Request) -> bool:
    return req.may(CROSS_CELL_RULE)
