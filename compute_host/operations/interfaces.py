"""Ports that come to a guest, and go. Each may be done again after a restart in the middle of it."""

from __future__ import annotations

import logging
from dataclasses import replace

from cell_service.errors import NotSupported, PolycellError
from cell_service.logs import about
from cell_service.model.instance import NetworkRequest, Vif
from cell_service.model.operation import Outcome
from cell_service.peers.network import Networks
from compute_host.operations.context import HostContext, Job, no_way_back, outcome_of, spec_of
from compute_host.virt.driver import Interfaces

PORT = "port_id"

log = logging.getLogger(__name__)


def attach(context: HostContext, job: Job) -> Outcome:
    """The port first, then its card. After an error neither is left; a port of the owner's is the owner's again."""
    driver, networks, asked, instance = _able(context), _networks(context), job.work.operation.arguments, job.instance
    key = asked["key"]
    vif: Vif | None = None
    try:
        vif = networks.plug(
            job.ctx,
            instance_uuid=instance.uuid,
            project_id=instance.project_id,
            host=context.host,
            availability_zone=instance.availability_zone,
            hostname=instance.hostname or instance.display_name,
            request=NetworkRequest(asked.get("network_id"), asked.get(PORT), asked.get("fixed_ip"), asked.get("tag")),
            key=key,
        )
        job.check()
        vifs = (*(each for each in instance.network_info if each.port_id != vif.port_id), vif)
        driver.attach_interface(spec_of(context, job, vifs), vif)
        job.check()
    except Exception:
        _withdraw(context, job, vif)
        raise
    return replace(outcome_of(context, job, network_info=vifs), result={PORT: vif.port_id})


def detach(context: HostContext, job: Job) -> Outcome:
    """The card first, then the port. A port that the network service has deleted meanwhile is no error.
    Raises NotYet."""
    driver, networks, instance = _able(context), _networks(context), job.instance
    port_id = job.work.operation.arguments[PORT]
    for vif in instance.network_info:
        if vif.port_id == port_id:
            driver.detach_interface(instance.uuid, vif)
    job.check()
    with no_way_back():
        networks.unplug(job.ctx, instance.uuid, port_id)
    left = tuple(vif for vif in instance.network_info if vif.port_id != port_id)
    return outcome_of(context, job, network_info=left)


def forget(context: HostContext, job: Job) -> None:
    """An attachment was taken away after it was done: nothing is left of it, and it may be done again."""
    known = {vif.port_id for vif in job.instance.network_info}
    try:
        found = context.networks.info(job.ctx, job.instance.uuid) if context.networks is not None else ()
    except PolycellError as error:
        log.warning("port not looked for", extra=about(job.ctx, instance=job.instance.uuid, reason=error))
        return
    for vif in found:
        if vif.port_id not in known:
            _withdraw(context, job, vif)


def _withdraw(context: HostContext, job: Job, vif: Vif | None) -> None:
    """Nothing is left of what was begun; where that fails, whoever ends the operation takes the port back."""
    try:
        if vif is not None and isinstance(context.driver, Interfaces):
            context.driver.detach_interface(job.instance.uuid, vif)
        if context.networks is not None:
            context.networks.take_back(job.ctx, job.instance.uuid, job.work.operation.arguments["key"])
    except PolycellError as error:
        log.warning("port not withdrawn", extra=about(job.ctx, instance=job.instance.uuid, reason=error))


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
