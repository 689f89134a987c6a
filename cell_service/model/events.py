"""Events of a server that other services report (Compute API, os-server-external-events)."""

from __future__ import annotations

from dataclasses import dataclass

NETWORK_CHANGED = "network-changed"
VIF_PLUGGED = "network-vif-plugged"
VIF_UNPLUGGED = "network-vif-unplugged"
VIF_DELETED = "network-vif-deleted"
VOLUME_EXTENDED = "volume-extended"
POWER_UPDATE = "power-update"
ACCELERATOR_BOUND = "accelerator-request-bound"
VOLUME_REIMAGED = "volume-reimaged"
POWER_ON, POWER_OFF = "POWER_ON", "POWER_OFF"


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """`tag` says which part of the server it is about: a port's id, a volume's id, POWER_ON or POWER_OFF."""

    name: str
    instance_uuid: str
    status: str = "completed"
    tag: str | None = None
