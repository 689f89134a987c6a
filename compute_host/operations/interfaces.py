"""Ports attached to guests and detached. Each function may run again after a restart in the middle of it."""

from __future__ import annotations

import logging

from cell_service.errors import NotSupported, PolycellError
from cell_service.logs import about
from cell_service.model.instance import NetworkRequest, Vif
from cell_service.model.operation import Outcome
from cell_service.operations.interfaces import (
    ATTACH_INTERFACE,
    AttachInterfaceArguments,
    AttachInterfaceResult,
    DetachInterfaceArguments,
)
from cell_service.peers.network import Networks
from compute_host.operations.context import HostContext, OperationContext, no_way_back, outcome_of, spec_of
from compute_host.virt.driver import Interfaces

log = logging.getLogger(__name__)


def attach(context: HostContext, work: OperationContext, arguments: AttachInterfaceArguments) -> Outcome:
    """Bind the port, then attach its interface. After an error neither is left; a port of the owner's is unbound."""
    driver, networks, instance = _able(context), _networks(context), work.instance
    vif: Vif | None = None
    try:
        vif = networks.plug(
            work.ctx,
            instance_uuid=instance.uuid,
            project_id=instance.project_id,
            host=context.host,
            availability_zone=instance.availability_zone,
            hostname=instance.hostname or instance.display_name,
            request=NetworkRequest(arguments.network_id, arguments.port_id, arguments.fixed_ip, arguments.tag),
            key=arguments.key,
        )
        work.check()
        vifs = (*(each for each in instance.network_info if each.port_id != vif.port_id), vif)
        driver.attach_interface(spec_of(context, work, vifs), vif)
        work.check()
    except Exception:
        _withdraw(context, work, vif)
        raise
    return outcome_of(context, work, network_info=vifs, result=AttachInterfaceResult(vif.port_id))


def detach(context: HostContext, work: OperationContext, arguments: DetachInterfaceArguments) -> Outcome:
    """Detach the interface, then unplug the port. A port that the network service has deleted meanwhile is no error.
    Raises NotYet."""
    driver, networks, instance = _able(context), _networks(context), work.instance
    port_id = arguments.port_id
    with no_way_back():
        for vif in instance.network_info:
            if vif.port_id == port_id:
                driver.detach_interface(instance.uuid, vif)
        work.check()
        networks.unplug(work.ctx, instance.uuid, port_id, project_id=instance.project_id)
    left = tuple(vif for vif in instance.network_info if vif.port_id != port_id)
    return outcome_of(context, work, network_info=left)


def forget(context: HostContext, work: OperationContext) -> None:
    """Undo an attachment that another worker has claimed meanwhile, so that it may be done again."""
    networks, instance = context.networks, work.instance
    known = {vif.port_id for vif in instance.network_info}
    try:
        found = networks.info(work.ctx, instance.uuid, project_id=instance.project_id) if networks is not None else ()
    except PolycellError as error:
        log.warning("port not looked for", extra=about(work.ctx, instance=instance.uuid, reason=error))
        return
    for vif in found:
        if vif.port_id not in known:
            _withdraw(context, work, vif)


def _withdraw(context: HostContext, work: OperationContext, vif: Vif | None) -> None:
    """Undo an attachment that was begun; where that fails, the conductor that ends the operation rolls the port
    back."""
    try:
        if vif is not None and isinstance(context.driver, Interfaces):
            context.driver.detach_interface(work.instance.uuid, vif)
        if context.networks is not None:
            key = ATTACH_INTERFACE.read(work.operation.arguments).key
            context.networks.roll_back(work.ctx, work.instance.uuid, key, project_id=work.instance.project_id)
    except PolycellError as error:
        log.warning("port not withdrawn", extra=about(work.ctx, instance=work.instance.uuid, reason=error))


def _able(context: HostContext) -> Interfaces:
    """Raises NotSupported."""
    if not isinstance(context.driver, Interfaces):
        raise NotSupported(reason="Guests of this host take no interfaces.")
    return context.driver


def _networks(context: HostContext) -> Networks:
    """Raises NotSupported."""
    if context.networks is None:
        raise NotSupported(reason="This host has no network service.")
    return context.networks
