"""Fixed and floating addresses of servers, changed in the network service and then seen in the server."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection

from api_cell.edge.route import Request
from api_cell.servers import act, find, networking
from api_cell.servers.interfaces import networks_of
from cell_service.db import actions, network_info
from cell_service.errors import Conflict, InstanceNotReady, Invalid, NotFound
from cell_service.model.instance import FixedIp, Instance, Vif
from cell_service.peers.network import Record
from mapping_db.cells.registry import Cell


def changed(req: Request, server_id: str, rule: str) -> Instance:
    """The server whose addresses will change. Raises InstanceNotFound, InstanceIsLocked, PolicyForbidden, and
    InstanceNotReady for one that is on no host yet."""
    found = find.server(req, server_id)
    req.demand(rule, find.target(found.instance))
    act.demand_unlocked(req.ctx, found.instance)
    if found.cell is None:
        raise InstanceNotReady(instance_uuid=server_id)
    return found.instance


def renew(req: Request, server_id: str, action: str | None = None) -> None:
    """The server shows its ports as the network service has them now; `action` stands in its history."""
    seen = find.server(req, server_id).instance
    vifs = {vif.port_id: vif for vif in networks_of(req).info(req.ctx, server_id)}

    def work(tx: Connection, cell: Cell) -> None:
        now = req.cloud.clock.now()
        network_info.renew(tx, seen, vifs, now)
        if action is not None:
            actions.start(tx, req.ctx, server_id, action, now)
            actions.finish(tx, server_id, req.ctx.request_id, now)

    find.change(req, server_id, work)


def add_floating(req: Request, server_id: str, rule: str, address: str, fixed_address: str | None) -> None:
    """The floating address leads to that fixed one (None: the first). Raises NotFound, Invalid, and as `changed`."""
    instance = changed(req, server_id, rule)
    if not instance.network_info:
        raise Invalid(reason="Instance network is not ready yet")
    ours = [(vif, fixed) for vif in instance.network_info for fixed in vif.fixed_ips if fixed.version == 4]
    if not ours:
        raise Invalid(reason="No fixed IPs associated to instance")
    vif, fixed = _fixed(ours, fixed_address)
    floating = _floating(req, address)
    fields = {"port_id": vif.port_id, "fixed_ip_address": fixed.address}
    networking.records_of(req).change(req.ctx, "floatingips", floating["id"], fields)
    renew(req, server_id)


def remove_floating(req: Request, server_id: str, rule: str, address: str) -> None:
    """The floating address leads nowhere. Raises NotFound, Conflict when it did not lead here, and as `changed`."""
    instance = changed(req, server_id, rule)
    floating = _floating(req, address)
    if floating.get("port_id") not in {vif.port_id for vif in instance.network_info}:
        raise Conflict(reason=f"Floating IP {address} is not associated with instance {server_id}.")
    networking.records_of(req).change(req.ctx, "floatingips", floating["id"], {"port_id": None})
    renew(req, server_id)


def add_fixed(req: Request, server_id: str, rule: str, network_id: str) -> None:
    """The server's port on that network has one more address. Raises NotFound, Invalid, and as `changed`."""
    instance = changed(req, server_id, rule)
    records = networking.records_of(req)
    port = next((vif for vif in instance.network_info if vif.network_id == network_id), None)
    if port is None:
        raise NotFound(reason=f"Network {network_id} could not be found for instance {server_id}.")
    subnets = records.find_all(req.ctx, "subnets", network_id=network_id)
    if not subnets:
        raise Invalid(reason=f"No fixed IP addresses available for network: {network_id}")
    now = _addresses(records.find(req.ctx, "ports", port.port_id))
    records.change(req.ctx, "ports", port.port_id, {"fixed_ips": [*now, {"subnet_id": subnets[0]["id"]}]})
    renew(req, server_id, "addFixedIp")


def remove_fixed(req: Request, server_id: str, rule: str, address: str) -> None:
    """The server has that address no more. Raises Invalid when it had not, and as `changed`."""
    instance = changed(req, server_id, rule)
    records = networking.records_of(req)
    for vif in instance.network_info:
        if any(fixed.address == address for fixed in vif.fixed_ips):
            now = _addresses(records.find(req.ctx, "ports", vif.port_id))
            left = [entry for entry in now if entry["ip_address"] != address]
            records.change(req.ctx, "ports", vif.port_id, {"fixed_ips": left})
            renew(req, server_id, "removeFixedIp")
            return
    raise Invalid(reason=f"Instance {server_id} doesn't have fixed IP '{address}'.")


def _fixed(ours: list[tuple[Vif, FixedIp]], wanted: str | None) -> tuple[Vif, FixedIp]:
    for vif, fixed in ours:
        if wanted is None or fixed.address == wanted:
            return vif, fixed
    raise Invalid(reason="Specified fixed address not assigned to instance")


def _floating(req: Request, address: str) -> Record:
    for found in networking.mine(req, "floatingips", floating_ip_address=address):
        return found
    raise NotFound(reason="floating IP not found")


def _addresses(port: Record | None) -> list[dict[str, Any]]:
    return list(port["fixed_ips"]) if port is not None else []
