"""Fixed and floating addresses of servers, changed in the network service and then shown in the server."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from api_cell.caller import Caller
from api_cell.servers import act, find, networking
from api_cell.services import Services
from cell_service.context import Context
from cell_service.db import actions, network_info
from cell_service.errors import Conflict, InstanceNotReady, Invalid, NotFound
from cell_service.model.instance import FixedIp, Instance, Vif
from cell_service.peers.network import Record
from mapping_db.cells.registry import Cell
from mapping_db.cloud import Cloud


def changed(cloud: Cloud, caller: Caller, server_id: str, rule: str) -> Instance:
    """The server whose addresses will change. Raises InstanceNotFound, InstanceIsLocked, PolicyForbidden, and
    InstanceNotReady for one that is on no host yet."""
    found = find.server(cloud, caller.ctx, server_id)
    caller.demand(rule, find.target(found.instance))
    act.demand_unlocked(caller.ctx, found.instance)
    if found.cell is None:
        raise InstanceNotReady(instance_uuid=server_id)
    return found.instance


def renew(cloud: Cloud, services: Services, ctx: Context, server_id: str, action: str | None = None) -> None:
    """Have the server show its ports as the network service has them now; `action` is recorded in its history."""
    seen = find.server(cloud, ctx, server_id).instance
    found = services.require_networks().info(ctx, server_id, project_id=seen.project_id)
    vifs = {vif.port_id: vif for vif in found}

    def work(tx: Connection, cell: Cell) -> None:
        now = cloud.clock.now()
        network_info.renew(tx, seen, vifs, now)
        if action is not None:
            actions.start(tx, ctx, server_id, action, now)
            actions.finish(tx, server_id, ctx.request_id, now)

    find.change(cloud, ctx, server_id, work)


def add_floating(
    cloud: Cloud, services: Services, caller: Caller, server_id: str, rule: str, address: str, fixed_address: str | None
) -> None:
    """Have the floating address lead to that fixed one (None: the first). Raises NotFound, Invalid, and as
    `changed`."""
    instance = changed(cloud, caller, server_id, rule)
    if not instance.network_info:
        raise Invalid(reason="Instance network is not ready yet")
    ours = [(vif, fixed) for vif in instance.network_info for fixed in vif.fixed_ips if fixed.version == 4]
    if not ours:
        raise Invalid(reason="No fixed IPs associated to instance")
    vif, fixed = _fixed(ours, fixed_address)
    floating = _floating(services, caller.ctx, address)
    fields = {"port_id": vif.port_id, "fixed_ip_address": fixed.address}
    networking.records_of(services).change(caller.ctx, "floatingips", floating["id"], fields)
    renew(cloud, services, caller.ctx, server_id)


def remove_floating(cloud: Cloud, services: Services, caller: Caller, server_id: str, rule: str, address: str) -> None:
    """Have the floating address lead nowhere. Raises NotFound, Conflict when it did not lead here, and as `changed`."""
    instance = changed(cloud, caller, server_id, rule)
    floating = _floating(services, caller.ctx, address)
    if floating.get("port_id") not in {vif.port_id for vif in instance.network_info}:
        raise Conflict(reason=f"Floating IP {address} is not associated with instance {server_id}.")
    networking.records_of(services).change(caller.ctx, "floatingips", floating["id"], {"port_id": None})
    renew(cloud, services, caller.ctx, server_id)


def add_fixed(cloud: Cloud, services: Services, caller: Caller, server_id: str, rule: str, network_id: str) -> None:
    """Give the server's port on that network one more address. Raises NotFound, Invalid, and as `changed`."""
    instance = changed(cloud, caller, server_id, rule)
    records = networking.records_of(services)
    port = next((vif for vif in instance.network_info if vif.network_id == network_id), None)
    if port is None:
        raise NotFound(reason=f"Network {network_id} could not be found for instance {server_id}.")
    subnets = records.find_all(caller.ctx, "subnets", network_id=network_id)
    if not subnets:
        raise Invalid(reason=f"No fixed IP addresses available for network: {network_id}")
    now = _addresses(records.find(caller.ctx, "ports", port.port_id))
    records.change(caller.ctx, "ports", port.port_id, {"fixed_ips": [*now, {"subnet_id": subnets[0]["id"]}]})
    renew(cloud, services, caller.ctx, server_id, "addFixedIp")


def remove_fixed(cloud: Cloud, services: Services, caller: Caller, server_id: str, rule: str, address: str) -> None:
    """Take that address from the server. Raises Invalid when the server does not have it, and as `changed`."""
    instance = changed(cloud, caller, server_id, rule)
    records = networking.records_of(services)
    for vif in instance.network_info:
        if any(fixed.address == address for fixed in vif.fixed_ips):
            now = _addresses(records.find(caller.ctx, "ports", vif.port_id))
            left = [entry for entry in now if entry["ip_address"] != address]
            records.change(caller.ctx, "ports", vif.port_id, {"fixed_ips": left})
            renew(cloud, services, caller.ctx, server_id, "removeFixedIp")
            return
    raise Invalid(reason=f"Instance {server_id} doesn't have fixed IP '{address}'.")


def _fixed(ours: list[tuple[Vif, FixedIp]], wanted: str | None) -> tuple[Vif, FixedIp]:
    for vif, fixed in ours:
        if wanted is None or fixed.address == wanted:
            return vif, fixed
    raise Invalid(reason="Specified fixed address not assigned to instance")


def _floating(services: Services, ctx: Context, address: str) -> Record:
    for found in networking.mine(services, ctx, "floatingips", floating_ip_address=address):
        return found
    raise NotFound(reason="floating IP not found")


def _addresses(port: Record | None) -> list[dict[str, Any]]:
    return list(port["fixed_ips"]) if port is not None else []
