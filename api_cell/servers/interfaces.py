"""Interfaces of servers: attached while the caller waits, detached soon."""

from __future__ import annotations

import threading
from typing import Any
from uuid import uuid4

from api_cell.caller import Caller
from api_cell.servers import act, find, networking
from api_cell.servers.able import demand_able_before
from api_cell.servers.act import Begun, Doing
from api_cell.services import Services
from cell_service import wire
from cell_service.context import Context
from cell_service.db import operations
from cell_service.errors import (
    Conflict,
    Forbidden,
    InterfaceAttachFailed,
    Invalid,
    NotFound,
    NotSupported,
    PolycellError,
    PortNotFound,
)
from cell_service.model.instance import Fault, Instance, NetworkRequest
from cell_service.model.operation import OUTCOME, UNFINISHED, Outcome
from cell_service.operations.interfaces import (
    ATTACH_INTERFACE,
    DETACH_INTERFACE,
    AttachInterfaceArguments,
    AttachInterfaceResult,
    DetachInterfaceArguments,
)
from cell_service.peers.network import PortState
from mapping_db.cloud import Cloud

ATTACH_SECONDS = 50.0
ATTACH = Doing(ATTACH_INTERFACE, "os_compute_api:os-attach-interfaces:create")
DETACH = Doing(DETACH_INTERFACE, "os_compute_api:os-attach-interfaces:delete")
FIRST_POLL_SECONDS, LAST_POLL_SECONDS = 0.01, 0.5

_MEANT: dict[int, type[PolycellError]] = {400: Invalid, 403: Forbidden, 404: NotFound, 409: Conflict, 501: NotSupported}


def ports_of(cloud: Cloud, services: Services, caller: Caller, server_id: str, rule: str) -> tuple[PortState, ...]:
    """The server's ports as the network service has them. Raises InstanceNotFound, PolicyForbidden, PeerUnavailable."""
    instance = find.server(cloud, caller.ctx, server_id).instance
    caller.demand(rule, find.target(instance))
    return services.require_networks().port_states(caller.ctx, instance.uuid, project_id=instance.project_id)


def port_of(cloud: Cloud, services: Services, caller: Caller, server_id: str, port_id: str, rule: str) -> PortState:
    """Raises PortNotFound for a port of another server."""
    for port in ports_of(cloud, services, caller, server_id, rule):
        if port.port_id == port_id:
            return port
    raise PortNotFound(port_id=port_id)


def attach(cloud: Cloud, services: Services, caller: Caller, server_id: str, request: NetworkRequest) -> PortState:
    """Give the server one more port, plugged. A client that does not wait for the end finds it, or nothing, later.

    Raises Invalid, Forbidden, NetworkNotFound, PortNotFound, Conflict, OverQuota, InterfaceAttachFailed and as
    `act.begin`.
    """
    networks = services.require_networks()
    found = find.server(cloud, caller.ctx, server_id)
    instance = found.instance
    caller.demand(ATTACH.rule, find.target(instance))
    demand_able_before(caller.ctx, found, ATTACH.operation)
    if request.network_id is not None or request.port_id is not None:
        external = caller.may(networking.EXTERNAL_RULE)
        networks.validate(caller.ctx, [request], (), 1, attached_to=instance.uuid, external=external)
    elif not (available := networks.available(caller.ctx, instance.project_id)):
        raise Invalid(reason="No specific network was requested and none are available for the project.")
    elif len(available) > 1:
        raise Conflict(reason="Multiple possible networks found, use a Network ID to be more specific.")
    arguments = AttachInterfaceArguments(
        str(uuid4()), request.network_id, request.port_id, request.fixed_ip, request.tag
    )
    outcome = _ended(
        cloud, caller.ctx, act.begin(cloud, caller, server_id, ATTACH, prepare=lambda _instance: (arguments, {}))
    )
    if outcome.fault is not None:
        raise _error(outcome.fault)
    port_id = wire.from_plain(AttachInterfaceResult, outcome.result).port_id
    for port in networks.port_states(caller.ctx, server_id, project_id=instance.project_id):
        if port.port_id == port_id:
            return port
    raise InterfaceAttachFailed(reason=f"Port {port_id} has gone again.")


def detach(cloud: Cloud, caller: Caller, server_id: str, port_id: str) -> None:
    """The port will be taken from the server. Raises PortNotFound, and as `act.begin`."""

    def prepare(instance: Instance) -> tuple[DetachInterfaceArguments, dict[str, Any]]:
        if all(vif.port_id != port_id for vif in instance.network_info):
            raise PortNotFound(port_id=port_id)
        return DetachInterfaceArguments(port_id), {}

    act.begin(cloud, caller, server_id, DETACH, prepare=prepare)


def _ended(cloud: Cloud, ctx: Context, begun: Begun) -> Outcome:
    """The outcome of the operation, which is polled more and more rarely, never after its deadline."""
    clock, waiter, pause = cloud.clock, threading.Event(), FIRST_POLL_SECONDS
    end = clock.monotonic() + ATTACH_SECONDS
    while clock.monotonic() < end and ctx.deadline.remaining() > 0:
        with begun.cell.db.connect(ctx.deadline) as tx:
            operation = operations.get(tx, begun.operation_id)
        if operation is None or operation.phase not in UNFINISHED:
            reported = operation.arguments.get(OUTCOME) if operation is not None else None
            if reported is None:
                raise Conflict(reason="The interface was not attached: the server is being deleted.")
            return wire.from_plain(Outcome, reported)
        clock.wait(waiter, pause)
        pause = min(pause * 1.5, LAST_POLL_SECONDS)
    raise InterfaceAttachFailed(reason=f"Host {begun.host} has not done it in time.")


def _error(fault: Fault) -> PolycellError:
    kind = _MEANT.get(fault.code)
    return kind(reason=fault.message) if kind is not None else InterfaceAttachFailed(reason=fault.message)
