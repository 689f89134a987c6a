"""The power state for each of libvirt's states of a domain."""

from __future__ import annotations

from typing import Any

import libvirt

from cell_service.model.lifecycle import PowerState
from compute_host.virt.libvirt import domain

_STATES = {
    libvirt.VIR_DOMAIN_NOSTATE: PowerState.NOSTATE,
    libvirt.VIR_DOMAIN_RUNNING: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_BLOCKED: PowerState.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: PowerState.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: PowerState.RUNNING,  # still shutting down
    libvirt.VIR_DOMAIN_SHUTOFF: PowerState.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: PowerState.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: PowerState.SUSPENDED,
}


def of(found: Any) -> PowerState:
    state, reason = found.state()
    if state == libvirt.VIR_DOMAIN_SHUTOFF:
        if found.hasManagedSaveImage():
            return PowerState.SUSPENDED
        if reason == libvirt.VIR_DOMAIN_SHUTOFF_CRASHED:
            return PowerState.CRASHED
    return _STATES.get(state, PowerState.NOSTATE)


def owner(found: Any) -> str:
    """The host that the domain's metadata names; empty when it has none, or is gone."""
    try:
        return domain.owner(found.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, domain.NAMESPACE, 0))
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN_METADATA, libvirt.VIR_ERR_NO_DOMAIN):
            return ""
        raise
