"""Demands on hardware, checked before a request is accepted: contradictions of flavor and image, and a host that a
server stays on."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection

from api_cell.servers.create import images
from cell_service.db import compute_nodes
from cell_service.errors import HostLacksHardware, Invalid
from cell_service.model.hardware import NO_NEEDS, Needs, needs_of
from cell_service.model.instance import Flavor, Instance


def check(flavor: Flavor, properties: Mapping[str, str]) -> None:
    """Raises Invalid for values of the flavor and the image that contradict each other, or that are none."""
    needs_of(flavor, properties)


def check_resize(instance: Instance, flavor: Flavor) -> None:
    """As `check`, for a server that gets another flavor."""
    check(flavor, _properties(instance))


def demand_on_host(tx: Connection, instance: Instance, properties: Mapping[str, str]) -> None:
    """Raises HostLacksHardware when another image demands what the server's host does not have."""
    had, wanted = _needs_now(instance), needs_of(instance.flavor, properties)
    unmet = "" if had.not_offered else wanted.not_offered
    added = Needs(wanted.traits - had.traits, wanted.abilities - had.abilities, unmet)
    if instance.host is None or added == NO_NEEDS:
        return
    for node in compute_nodes.list_all(tx, host=instance.host):
        reason = added.unmet_by(node.report.traits, node.report.abilities)
        if reason is not None:
            raise HostLacksHardware(instance_uuid=instance.uuid, reason=reason)


def _needs_now(instance: Instance) -> Needs:
    """None for an instance that is older than the check of its values."""
    try:
        return needs_of(instance.flavor, _properties(instance))
    except Invalid:
        return NO_NEEDS


def _properties(instance: Instance) -> dict[str, str]:
    known, prefix = instance.system_metadata, images.PREFIX
    return {name[len(prefix) :]: value for name, value in known.items() if name.startswith(prefix)}
